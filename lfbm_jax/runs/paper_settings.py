"""The settings of the paper's experiments, from Tables 7 to 10 and 12 and the authors' code.

`lfbm_jax.runs.comparable` compares runs with them. Configs state their values independently, and a
test checks that the two agree.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lfbm_jax.inference import langevin
from lfbm_jax.layers import convolutions
from lfbm_jax.reports import paper
from lfbm_jax.runs import build, configuration, workdir

# (prior, inference) -> the paper's name for the two together.
METHODS = {
    ("glow", "langevin"): "LFBM-MCMC",
    ("glow", "iaf"): "LFBM-VAE",
    ("energy", "langevin"): "LEBM",
    ("gaussian", "langevin"): "ABP",
    ("gaussian", "encoder"): "VAE",
}
# (prior, inference, objective) -> the paper's name for its other baselines.
OTHER_METHODS = {
    ("mixture", "encoder", "rae"): "RAE",
    ("gaussian", "encoder", "ebm_vae"): "EBM-VAE",
    ("gaussian", "langevin", "meg"): "MEG",
    ("gaussian", "encoder", "bigan"): "BiGAN-sigma",
    ("second_stage", "encoder", "variational"): "2sVAE",
    ("layered", "sri", "variational"): "SRI",
}


class Experiment(NamedTuple):
    """The published settings of the experiment on one data set.

    Attributes:
        data: settings of the config's section `data` that are not the default.
        num_train, num_test: images in the splits; 0: no image is scored.
        num_epochs: least number of epochs that the authors' published checkpoint was trained for.
        latent_dim, sigma: d, and the observation noise of the authors' code.
        generator: layers of the generator (Tables 7 and 12).
        flow: number of steps of the prior, and their hidden width in the authors' code.
        energy: settings of LEBM's prior that are not the default.
        steps: Langevin steps in training and in testing; None: not given.
        encoder: layers of the encoder (Table 8); (): the generator's, mirrored.
        encoder_flow: steps and hidden width of the inverse autoregressive flow.
        rate: learning rate of flow and generator (Table 9); None: not given.
        amortised: dotted settings of LFBM-VAE (Table 10); {}: not given.
        lebm: dotted settings of the LEBM authors' code; {}: not given.
    """

    data: Mapping[str, Any]
    num_train: int
    num_test: int
    num_epochs: int
    latent_dim: int
    sigma: float
    generator: tuple
    flow: tuple[int, int]
    energy: Mapping[str, Any]
    steps: tuple[int, int | None]
    encoder: tuple
    encoder_flow: tuple[int, int]
    rate: float | None
    amortised: Mapping[str, Any]
    lebm: Mapping[str, Any]


def _table_10(sigma, generator, prior, inference, updates, batch_size) -> dict[str, Any]:
    rates = {"generator": generator, "prior": prior, "inference": inference}
    return {
        "model.sigma": sigma,
        "train.batch_size": batch_size,
        "train.prior_inference_updates": updates,
        **{f"optimizer.{name}.learning_rate": rate for name, rate in rates.items()},
        **{f"optimizer.{name}.decay_per_epoch": 0.99 for name in rates},
    }


_LEBM = {
    "optimizer.generator.learning_rate": 1e-4,
    "optimizer.prior.learning_rate": 2e-5,
    "inference.num_steps": 20,
}
EXPERIMENTS = {
    "SVHN": Experiment(
        data={"image_size": 32},
        num_train=73_257,
        num_test=26_032,
        num_epochs=115,
        latent_dim=100,
        sigma=0.3,
        generator=((512, 4, 1, 0), (256, 4, 2, 1), (128, 4, 2, 1), (3, 4, 2, 1)),
        flow=(5, 64),
        energy={},
        steps=(20, 400),
        encoder=((10, 3, 1, 1), (20, 4, 2, 1), (40, 4, 2, 1), (80, 4, 2, 1)),
        encoder_flow=(20, 200),
        rate=4e-4,
        amortised=_table_10(0.5, 8e-3, 6e-4, 4e-4, updates=1, batch_size=100),
        lebm=_LEBM,
    ),
    "CIFAR-10": Experiment(
        data={"image_size": 32},
        num_train=50_000,
        num_test=10_000,
        num_epochs=93,
        latent_dim=128,
        sigma=0.3,
        generator=((1024, 8, 1, 0), (512, 4, 2, 1), (256, 4, 2, 1), (3, 3, 1, 1)),
        flow=(5, 64),
        energy={},
        steps=(40, 800),
        encoder=((64, 3, 1, 1), (128, 4, 2, 1), (256, 4, 2, 1), (512, 4, 2, 1)),
        encoder_flow=(5, 256),
        rate=3.8e-4,
        amortised=_table_10(0.25, 2e-3, 1.2e-3, 2e-4, updates=6, batch_size=100),
        lebm={},
    ),
    "CelebA": Experiment(
        data={"image_size": 64, "crop": "45,25,128,128", "test_split": "validation"},
        num_train=162_770,
        num_test=19_867,
        num_epochs=71,
        latent_dim=100,
        sigma=0.3,
        generator=(
            (1024, 4, 1, 0), (512, 4, 2, 1), (256, 4, 2, 1), (128, 4, 2, 1), (3, 4, 2, 1)
        ),
        flow=(5, 64),
        energy={"activation": "gelu"},  # At 64 x 64 ours.
        steps=(20, 400),
        encoder=((64, 4, 2, 1), (128, 4, 2, 1), (256, 4, 2, 1), (256, 4, 2, 1)),
        encoder_flow=(5, 200),
        rate=3e-4,
        amortised=_table_10(0.25, 2e-3, 1.5e-4, 1e-4, updates=6, batch_size=256),
        lebm=_LEBM,
    ),
    "CelebAMask-HQ": Experiment(
        data={"image_size": 256, "horizontal_flip": True},
        num_train=30_000,
        num_test=0,
        num_epochs=71,  # CelebA's, as none is given
        latent_dim=128,
        sigma=1.0,
        generator=(
            (2048, 4, 1, 0), (1024, 4, 2, 1), (512, 4, 2, 1), (256, 4, 2, 1), (256, 4, 2, 1),
            (128, 4, 2, 1), (3, 4, 2, 1),
        ),
        flow=(10, 128),
        energy={"hidden_width": 1000, "activation": "gelu"},
        steps=(60, None),
        encoder=(),
        encoder_flow=(5, 256),
        rate=None,
        amortised={},
        lebm={},
    ),
}  # fmt: skip
NUM_RECOVERED = 10_000  # images of section 4.6, all of which are trained on and scored
_RATES = ("optimizer.", "train.batch_size", "train.prior_inference_updates")


def method(config: Mapping[str, Any]) -> str:
    """The paper's name for the model of a config, or the names of its parts if it has none."""
    if config["objective"].get("regularizer") == "none":
        return "plain autoencoder"
    prior, inference, objective = (
        config[section]["name"] for section in ("prior", "inference", "objective")
    )
    other = OTHER_METHODS.get((prior, inference, objective))
    if other:
        layers = config["prior"].get("num_layers", 1)
        return other if layers == 1 else f"{other} (L={layers})"
    plain = f"{prior} prior, {inference} inference"
    if objective != "variational":
        return f"{plain}, {objective}"
    return METHODS.get((prior, inference), plain)


def given(data: str, name: str) -> dict[str, Any]:
    """The settings, by dotted name, that are given for a method on a data set of the paper.

    A setting that the paper and the published code do not mention is included at its default, at
    which it is unused. Settings are left out if every run needs a value but none is published, such
    as the learning rates of other methods.

    Args:
        data: the paper's name for the data set; the result is empty for any other.
        name: the paper's name for the method.
    """
    config = configuration.base().to_dict()
    if data == "MNIST":  # No network is given.
        config["data"] |= {
            "image_size": 28, "channels": 1, "pooled_train_share": paper.POOLED_TRAIN_SHARE
        }  # fmt: skip
        left_out = ("data.exclude_labels", "data.pooled_seed")
        of_score = {"anomaly": {"sigma": 0.0, "num_chains": 1}}
        return _without({"data": config["data"], "task": of_score}, left_out)
    if data not in EXPERIMENTS:
        return {}
    own = EXPERIMENTS[data]
    config["data"] |= own.data
    deep = name.endswith("(L=5)")
    config["model"] |= {"latent_dim": own.latent_dim * (5 if deep else 1), "sigma": own.sigma}
    config["generator"]["layers"] = own.generator
    if name not in METHODS.values():
        parts_of_it = ("prior.", "inference.", "eval_inference.", "objective.")
        own_settings = ("model.sigma", "model.learned_sigma", "generator.spectral_norm")
        return _without(config, (*_RATES, *own_settings, *parts_of_it))
    prior, inference = next(names for names, known in METHODS.items() if known == name)
    config["prior"] = _prior(own, prior)
    config["inference"], config["eval_inference"] = _inference(own, inference)
    for rates in config["optimizer"].values():
        rates["learning_rate"] = own.rate
    published = {"LFBM-VAE": own.amortised, "LEBM": own.lebm}.get(name, {})
    return _without(config, _not_given(own, name, inference, published)) | dict(published)


def _not_given(
    own: Experiment, name: str, inference: str, published: Mapping[str, Any]
) -> tuple[str, ...]:
    """Prefixes of those settings of a method that have no published value."""
    if own.rate is None:
        return (*_RATES, "eval_inference.")
    if name == "VAE":
        return (*_RATES, "model.sigma")
    if name == "LFBM-MCMC" or published:
        return () if inference == "iaf" else ("optimizer.inference.",)
    # The LEBM authors' code has no settings for CIFAR-10.
    return ("optimizer.", "inference.num_steps") if name == "LEBM" else ("optimizer.",)


def _prior(own: Experiment, name: str) -> dict[str, Any]:
    settings = build.defaults("prior", name)
    if name == "glow":
        settings |= dict(zip(("num_steps", "hidden_width"), own.flow, strict=True))
    return settings | dict(own.energy if name == "energy" else {})


def _inference(own: Experiment, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of inference in training, and those in testing."""
    settings = build.defaults("inference", name)
    if name == "langevin":
        training, testing = own.steps
        chain = settings | {"num_steps": training, "step_size": 0.1}
        return chain, chain | langevin.EVALUATION | {"num_steps": testing}
    settings["layers"] = own.encoder or convolutions.symmetric(own.generator)
    if name == "iaf":
        settings |= dict(zip(("flow_steps", "hidden_width"), own.encoder_flow, strict=True))
    return settings, settings | {"noise": False}


def _without(config: dict[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    """Flattens a config to dotted JSON values, without settings that start with `left_out`."""
    left_out += ("data.source", "data.name", "data.dir", "masked_inference.", "precision")
    left_out += ("optimizer.objective.",)  # Networks that none of its objectives has.
    return {
        key: value
        for key, value in workdir.flat(workdir.as_json(config)).items()
        if not key.startswith(left_out)
    }
