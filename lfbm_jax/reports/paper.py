"""The numbers that the paper prints, once: Tables 2 to 6 and 13.

Everything that shows the paper beside ours reads them here.
"""

from collections.abc import Mapping
from typing import Any

# (prior, inference) -> the paper's name for it, and the same for baselines.
METHODS = {
    ("glow", "langevin"): "LFBM-MCMC",
    ("glow", "iaf"): "LFBM-VAE",
    ("energy", "langevin"): "LEBM",
    ("gaussian", "langevin"): "ABP",
    ("gaussian", "encoder"): "VAE",
}
BASELINES = {"rae": "RAE", "two_stage_vae": "2sVAE", "sri": "SRI"}


def method(config: Mapping[str, Any]) -> str:
    """The paper's name for the model that a config describes, or its parts where it has none."""
    baseline = config.get("baseline", {})
    if baseline.get("regularizer") == "none":
        return "plain autoencoder"
    if baseline.get("name"):
        layers = baseline.get("num_layers", 1)
        of_layers = f" (L={layers})" if layers > 1 else ""
        return BASELINES.get(baseline["name"], baseline["name"]) + of_layers
    parts = config["prior"]["name"], config["inference"]["name"]
    return METHODS.get(parts, "{} prior, {}".format(*parts))


# Table 2, reconstruction and generation: data set -> figure -> a value a method; None is a dash.
TABLE_2_METHODS = (
    "VAE", "2sVAE", "RAE", "SRI", "SRI (L=5)", "ABP", "LEBM", "LFBM-VAE", "LFBM-MCMC"
)  # fmt: skip
TABLE_2 = {
    "SVHN": {
        "mse": (0.019, 0.019, 0.014, 0.018, 0.011, None, 0.008, 0.005, 0.005),
        "fid": (46.78, 42.81, 40.02, 44.86, 35.23, 49.71, 29.44, 24.96, 23.64),
    },
    "CIFAR-10": {
        "mse": (0.057, 0.056, 0.027, None, None, 0.018, 0.020, 0.020, 0.016),
        "fid": (106.37, 72.90, 74.16, None, None, 90.30, 70.15, 69.70, 66.41),
    },
    "CelebA": {
        "mse": (0.021, 0.021, 0.018, 0.020, 0.015, None, 0.013, 0.014, 0.011),
        "fid": (65.75, 44.40, 40.95, 61.03, 47.95, 51.50, 37.87, 33.64, 33.64),
    },
}

SIDE = 64  # of the images of Tables 3, 5 and 6, to whose side ours are compared.

# Table 3, inpainting of CelebA at 64 x 64. The columns are as printed; no FID of images is near
# 0.056, so that they may be swapped or rescaled.
TABLE_3 = {
    "LFBM-MCMC": {"fid": 0.0557, "mse": 0.1937},
    "LFBM-VAE": {"fid": 0.0562, "mse": 0.2074},
}

# Table 4, anomaly detection on MNIST: method -> AUPRC by held-out digit, the means over ten runs
# and their spreads. The text calls the spread variance, the table's plus-minus says standard
# deviation.
TABLE_4_DIGITS = (1, 4, 5, 7, 9)
TABLE_4 = {
    "VAE": ((0.063, 0.337, 0.325, 0.148, 0.104), None),
    "MEG": ((0.281, 0.401, 0.402, 0.290, 0.342), (0.035, 0.061, 0.062, 0.040, 0.034)),
    "BiGAN-sigma": ((0.287, 0.443, 0.514, 0.347, 0.307), (0.023, 0.029, 0.029, 0.017, 0.028)),
    "EBM-VAE": ((0.297, 0.723, 0.676, 0.490, 0.383), (0.033, 0.042, 0.041, 0.041, 0.025)),
    "LEBM": ((0.336, 0.630, 0.619, 0.463, 0.413), (0.008, 0.017, 0.013, 0.009, 0.010)),
    "ABP": ((0.095, 0.138, 0.147, 0.138, 0.102), (0.028, 0.037, 0.026, 0.021, 0.033)),
    "LFBM-MCMC": ((0.349, 0.812, 0.823, 0.682, 0.514), (0.002, 0.007, 0.009, 0.004, 0.008)),
}

# Tables 5 and 6, recovery of occluded CelebA images: the occlusions, then figure -> prior -> a
# value each (MSE of the hidden pixels is Table 5, FID of samples is Table 6).
OCCLUSIONS = (
    "salt and pepper 30 %", "salt and pepper 50 %", "salt and pepper 70 %",
    "square 20", "square 30", "square 40",
)  # fmt: skip
TABLES_5_AND_6 = {
    "mse": {
        "glow": (0.0244, 0.0317, 0.0464, 0.0420, 0.0587, 0.0864),
        "energy": (0.0256, 0.0319, 0.0465, 0.0429, 0.0684, 0.0957),
        "gaussian": (0.0259, 0.0326, 0.0472, 0.0404, 0.0572, 0.0918),
    },
    "fid": {
        "glow": (46.2, 59.14, 86.77, 42.39, 47.52, 72.47),
        "energy": (52.78, 61.91, 88.27, 49.16, 51.59, 77.39),
        "gaussian": (153.01, 156.71, 172.77, 150.95, 146.41, 184.53),
    },
}

# Table 13, FID on CelebAMask-HQ at 256 x 256.
TABLE_13 = {"ABP": 102.61, "LEBM": 94.03, "LFBM-VAE": 129.65, "LFBM-MCMC": 75.20}


def table_2(data: str, method: str = "LFBM-MCMC") -> dict[str, dict[str, float]]:
    """Table 2's figures of one method, by the task that measures them."""
    column = TABLE_2_METHODS.index(method)
    return {
        task: {figure: TABLE_2[data][figure][column]}
        for task, figure in (("reconstruct", "mse"), ("generate", "fid"))
        if TABLE_2[data][figure][column] is not None
    }


def table_3(method: str = "LFBM-MCMC") -> dict[str, dict[str, float]]:
    """Table 3's figures as printed, by the task that measures them; {} for another method."""
    if method not in TABLE_3:
        return {}
    return {"inpaint": {"mse_hidden": TABLE_3[method]["mse"], "fid": TABLE_3[method]["fid"]}}


def table_4(digit: int, method: str = "LFBM-MCMC") -> dict[str, dict[str, float]]:
    """Table 4's mean for a held-out digit; nothing for a digit or method that it does not have."""
    if digit not in TABLE_4_DIGITS or method not in TABLE_4:
        return {}
    return {"anomaly": {"auprc": TABLE_4[method][0][TABLE_4_DIGITS.index(digit)]}}


def occlusion(mask: str, side: int) -> str | None:
    """Which occlusion of Tables 5 and 6 a `data.mask` is for images of that side; None for another.

    Squares count in proportion to the side of the image, to the nearest whole pixel of it.
    """
    kind, _, value = mask.partition(":")
    try:
        amount = float(value)
    except ValueError:
        return None
    for name in OCCLUSIONS:
        paper_kind, size = name.removesuffix(" %").rsplit(" ", 1)
        if paper_kind == "square":
            same = kind == "random_box" and abs(amount - int(size) * side / SIDE) <= 0.5
        else:
            same = kind == "salt_and_pepper" and f"{100 * amount:g}" == size
        if same:
            return name
    return None


def tables_5_and_6(mask: str, side: int, prior: str) -> dict[str, dict[str, float]]:
    """The figures for a `data.mask` and a prior, by the task that measures them; {} for others."""
    name = occlusion(mask, side)
    if name is None or prior not in TABLES_5_AND_6["mse"]:
        return {}
    mse, fid = (TABLES_5_AND_6[key][prior][OCCLUSIONS.index(name)] for key in ("mse", "fid"))
    return {"recover": {"mse_hidden": mse}, "generate": {"fid": fid}}


def table_13(method: str) -> dict[str, dict[str, float]]:
    """Table 13's FID of a method; {} for one that it does not have."""
    return {"generate": {"fid": TABLE_13[method]}} if method in TABLE_13 else {}
