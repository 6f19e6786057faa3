"""The meaning of every figure in words, with its unit and the direction that is better.

A new figure of a task gets a line here. Without one, a report shows the figure under its own name.
"""

from typing import NamedTuple

from lfbm_jax.inference import sampler


class Meaning(NamedTuple):
    """What a figure says.

    Attributes:
        words: what was measured.
        unit: the unit; "" for counts, shares and quantities without one.
        better: "lower", "higher" or "near ..."; "" for yardsticks and for facts about the setting.
    """

    words: str
    unit: str = ""
    better: str = ""


# Tasks in the order in which a report shows them, with their headings.
TASKS = {
    "generate": "Samples",
    "reconstruct": "Reconstructions",
    "recover": "Recovery of occluded training images",
    "inpaint": "Completion of images",
    "interpolate": "Images that turn into one another",
    "anomaly": "Anomaly detection",
    "classify": "Samples seen by a classifier",
    "prior_fit": "Fit of the prior",
    "posterior_gap": "Distance of the chain from the posterior",
    "mixing": "Long chains compared with each other",
    "benchmark": "Speed of a training step",
    "costs": "Sizes and times",
}

OF_INFERENCE = {
    "norm_z": Meaning("length of the inferred z"),
    "grad_norm_log_prior": Meaning("length of the gradient of log p(z) at the end of the chain"),
    "grad_norm_log_likelihood": Meaning(
        "length of the gradient of log p(x given z) at the end of the chain"
    ),
    "step_size": Meaning("step size that was found by adaptation"),
    "log_q": Meaning("log q(z given x) of the inferred z", "nats"),
    "deviation": Meaning("standard deviation of q(z given x)"),
    "loss_inference": Meaning("loss of the network that learns from the ends of chains"),
    "chain_distance": Meaning("distance from the start of the chain to its end"),
    "acceptance": Meaning("acceptance rate of the chain"),
    "energy_error": Meaning("squared error of the energy per dimension, of every step"),
}

FIGURES = {
    "num_images": Meaning("images measured"),
    "num_training_images": Meaning("training images they are compared with"),
    # generate
    "pixel_mean": Meaning(
        "mean of the samples' pixels, from -1 to 1", better="near the training images'"
    ),
    "pixel_stddev": Meaning(
        "standard deviation of the samples' pixels", better="near the training images'"
    ),
    "training_pixel_mean": Meaning("mean of the training images' pixels"),
    "training_pixel_stddev": Meaning("standard deviation of the training images' pixels"),
    "mean_log_p_z": Meaning("mean log p(z) of the latent vectors", "nats"),
    "time/milliseconds_per_batch": Meaning("time to synthesise a batch", "ms", "lower"),
    # reconstruct
    "mse": Meaning("mean squared error of reconstructions, pixels from -1 to 1", "", "lower"),
    "mse_of_mean_image": Meaning("the same error of the mean training image"),
    "mean_log_p_x_given_z": Meaning("mean log p(x given z) at the inferred z", "nats", "higher"),
    **{f"mean_{name}": each for name, each in OF_INFERENCE.items()},
    # recover and inpaint
    "hidden_share": Meaning("share of hidden pixels"),
    "mse_hidden": Meaning("mean squared error at the hidden pixels", "", "lower"),
    "mse_visible": Meaning("mean squared error at the visible pixels", "", "lower"),
    "mse_hidden_of_mean_image": Meaning("error at the hidden pixels of the mean training image"),
    "mse_hidden_of_bilinear_fill": Meaning("error at the hidden pixels of interpolation"),
    "mse_hidden_of_median_fill": Meaning(
        "error at the hidden pixels of the median of visible pixels nearby"
    ),
    "mse_hidden_of_nearest_image": Meaning(
        "error at the hidden pixels of the most similar training image"
    ),
    "mse_hidden_of_mean_completion": Meaning(
        "error at the hidden pixels of the mean of an image's completions", "", "lower"
    ),
    "mse_of_reconstruction": Meaning("error of reconstructing the whole images", "", "lower"),
    "num_completions": Meaning("completions per image"),
    "diversity": Meaning("standard deviation over the completions of an image"),
    # interpolate
    "mean_step": Meaning("root mean squared difference between neighbours on a path"),
    "largest_step": Meaning("the largest of these differences"),
    # anomaly
    "base_rate": Meaning("share of anomalies, which is the AUPRC of chance"),
    "auprc": Meaning("area under the precision-recall curve (AUPRC)", "", "higher"),
    "average_precision": Meaning("the same area, not interpolated", "", "higher"),
    "auprc_of_one_chain": Meaning("AUPRC with one chain per image", "", "higher"),
    "auprc_of_log_p_z": Meaning("AUPRC of log p(z) alone", "", "higher"),
    "auprc_of_log_p_x_given_z": Meaning("AUPRC of log p(x given z) alone", "", "higher"),
    "mse_of_normal_images": Meaning("reconstruction error of normal images", "", "lower"),
    "mse_of_anomalies": Meaning("reconstruction error of anomalies", "", "higher"),
    # classify
    "test_accuracy": Meaning("accuracy of the classifier on test images"),
    "confident_share": Meaning("share of samples recognised with confidence", "", "higher"),
    "confident_share_of_test_images": Meaning("share of test images recognised with confidence"),
    "classes": Meaning("classes of the data"),
    "classes_found": Meaning("classes among the recognised samples", "", "higher"),
    "share_of_rarest_class": Meaning(
        "share of the rarest class among the recognised samples", "", "higher"
    ),
    "classifier_frechet_distance": Meaning(
        "Fréchet distance of samples to training images, in the classifier's features",
        "",
        "lower",
    ),
    "classifier_frechet_distance_of_test_images": Meaning("the same distance of test images"),
    # prior_fit
    "mmd": Meaning(
        "squared maximum mean discrepancy between inferred and sampled z", "", "lower"
    ),
    "mmd_standard_normal": Meaning("the same between inferred z and draws from N(0, I)"),
    "two_sample_accuracy": Meaning(
        "accuracy of a classifier that tells inferred from sampled z", "", "near 0.5"
    ),
    "test_log_p_z": Meaning("mean log p(z) of z inferred from test images", "nats", "higher"),
    "gaussian_test_log_p_z": Meaning("the same under a Gaussian fitted to training images", "nats"),
    "sampled_log_p_z": Meaning(
        "mean log p(z) of draws from the prior", "nats", "near the test images'"
    ),
    # posterior_gap
    "log_p_x": Meaning("mean log p(x) by annealed importance sampling", "nats", "higher"),
    "annealing_acceptance": Meaning("share of accepted transitions of the annealing"),
    "annealing_effective_share": Meaning(
        "effective share of the annealed chains; near 1, log p(x) is reliable", "", "near 1"
    ),
    # mixing
    **{
        f"{kernel}_{name}": meaning._replace(words=f"{kernel.upper()}: {meaning.words}")
        for kernel in sampler.ADAPTATIONS
        for name, meaning in {
            "acceptance": OF_INFERENCE["acceptance"],
            "energy_error": OF_INFERENCE["energy_error"],
            "ess_share": Meaning("effective sample size per draw", better="higher"),
            "rhat": Meaning("R-hat; chains that agree have less than 1.01", better="near 1"),
            "log_joint": Meaning("mean log p(x, z) of the draws", "nats"),
        }.items()
    },
    "inference_log_joint": Meaning("mean log p(x, z) of z inferred as in training", "nats"),
    # costs
    "parameters": Meaning("parameters of all networks"),
    "time/milliseconds_to_sample": Meaning("time to draw as many samples as a batch has", "ms"),
    "time/milliseconds_to_infer": Meaning("time to infer z of a training batch", "ms"),
    "time/minutes_per_epoch": Meaning("time of an epoch of training", "minutes", "lower"),
}

# Figures whose names go on, with how they were measured or with a number of steps.
PREFIXES = {
    "fid": Meaning("Fréchet inception distance (FID) to the training images", "", "lower"),
    "kid": Meaning("kernel inception distance (KID) to the training images", "", "lower"),
    "kid_stddev": Meaning("standard deviation of KID over its subsets"),
    "gap_at_least": Meaning("lower bound of KL(chain, posterior) by steps:", "nats", "lower"),
    "gap_at_most": Meaning("upper bound of KL(chain, posterior) by steps:", "nats", "lower"),
}

# (task, figure) -> its yardstick in the same report, and what the yardstick is the figure of.
YARDSTICKS = {
    ("reconstruct", "mse"): ("mse_of_mean_image", "the mean training image"),
    ("recover", "mse_hidden"): ("mse_hidden_of_bilinear_fill", "interpolation"),
    ("inpaint", "mse_hidden"): ("mse_hidden_of_nearest_image", "the most similar training image"),
    ("anomaly", "auprc"): ("base_rate", "chance"),
    ("classify", "confident_share"): ("confident_share_of_test_images", "test images"),
    ("prior_fit", "mmd"): ("mmd_standard_normal", "a standard normal prior"),
}


def of(figure: str) -> Meaning:
    """The meaning of a figure, such as "mse" or "fid_of_300_images".

    A figure that is not known has its own name as its words.
    """
    if figure in FIGURES:
        return FIGURES[figure]
    for prefix in sorted(PREFIXES, key=len, reverse=True):
        if figure == prefix or figure.startswith(f"{prefix}_"):
            meaning = PREFIXES[prefix]
            rest = figure.removeprefix(prefix).replace("_", " ")
            return meaning._replace(words=meaning.words + rest)
    return Meaning(figure.replace("_", " "))


def cell(figure: str) -> str:
    """A figure's cell in a table: its words, and below them its name, unit and better direction."""
    return f"{of(figure).words}\n{figure}{_unit_and_better(figure)}"


def sentence(figure: str) -> str:
    """A figure in one sentence: its words, its unit and its better direction."""
    words = of(figure).words
    return f"{words[0].upper()}{words[1:]}{_unit_and_better(figure)}."


def heading(report: str) -> str:
    """The heading of a report, such as "reconstruct" or "reconstruct_averaged"."""
    task = report.removesuffix("_averaged")
    averaged = ", averaged parameters" if report != task else ""
    return TASKS.get(task, task.replace("_", " ").capitalize()) + averaged


def place(report: str) -> tuple[int, str]:
    """The sort key of a report: the order of TASKS, then other tasks by name."""
    known, task = list(TASKS), report.removesuffix("_averaged")
    return known.index(task) if task in known else len(known), report


def _unit_and_better(figure: str) -> str:
    meaning = of(figure)
    unit = f", in {meaning.unit}" if meaning.unit else ""
    return unit + (f"; better: {meaning.better}" if meaning.better else "")
