"""Detects anomalies (section 4.4): images of a class left out of training should score low.

The data's settings decide which images are scored (see `images.selection`). The published protocol
(`data.pooled_train_share=0.8`) pools all images, permutes those of the other classes, trains on
80 % of these and scores the other 20 % and all anomalies. With the source's own splits, the test
split is scored. AUPRC depends on the share of anomalies, about 0.35 in the published protocol and
0.1 in the test split, so figures of the two cannot be compared.

The score is log p_alpha(z) - ‖x - g(z)‖²/(2 sigma²) - (D/2) log(2 pi sigma²) in nats, averaged over
`task.anomaly.num_chains` chains from different starts. Low scores mean anomalies. Sigma is
`task.anomaly.sigma`, or the model's sigma if that is 0; z is always inferred with the model's. The
paper prints the constant for one of the D pixels, which ranks the images in the same order.

An objective can have a score of its own, such as an energy of images (see `objectives/base.py`).
That score then takes the place of the paper's, and of the figures below only the first four exist.

Figures, with the anomalies as the positive class:
    num_images: the number of scored images.
    base_rate: the share of anomalies, which is the AUPRC of a random score.
    auprc: the area under the precision-recall curve by the trapezoid rule, as published.
    average_precision: the same area, summed without interpolation.
    auprc_of_one_chain: the mean over chains of the AUPRC of a single chain.
    auprc_of_log_p_z, auprc_of_log_p_x_given_z: the AUPRC of each term alone, on which the score's
        sigma has no effect.
    mse_of_normal_images, mse_of_anomalies: means over images and pixels of (x - g(z))², x in
        [-1, 1].

Pictures: the curve; the AUPRC of log p_alpha(z) + c log p(x|z) over the weight c, which shows which
term ranks wrong; and images above their reconstructions. The latter show the images with the lowest
scores, the normal images with the lowest scores, and the anomalies with the highest ones.
"""

import math
from typing import NamedTuple

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8, to_uint8
from lfbm_jax.metrics.precision_recall import auprc, average_precision
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "num_images": 0,  # 0: all held-out images and anomalies
    "batch_size": 100,
    "num_chains": 1,  # per image, from different starts; their scores are averaged
    "sigma": 0.0,  # in log p(x|z) of the score; 0: the model's
}
SMOKE = {"num_images": 0, "batch_size": 16, "num_chains": 2, "sigma": 0.0}

SHOWN = 40
WEIGHTS = tuple(2.0**power for power in range(-8, 3))


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if no class is held out or a setting is invalid."""
    settings = config.task.anomaly
    if settings.num_chains < 1:
        raise UserError(f"task.anomaly.num_chains={settings.num_chains}: must be at least 1")
    if not 0 <= settings.sigma < math.inf:
        raise UserError(
            f"task.anomaly.sigma={settings.sigma}: must be positive, or 0 for the model's"
        )
    if not config.data.exclude_labels:
        raise UserError(
            "data.exclude_labels=(): task anomaly scores images of a class left out of training;"
            " name one, as --config=configs/mnist_anomaly.py:digit=1 does"
        )


def check_data(data: Cache, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if no image is held out, or all that are scored are of one kind."""
    if data.held_out is None and data.excluded is None:
        raise UserError(
            "task anomaly: no image is held out; set data.test_fraction or data.pooled_train_share"
        )
    anomaly = _are_anomalies(data, config)
    if anomaly.all() or not anomaly.any():
        raise UserError(
            f"task anomaly: {anomaly.sum()} of the {len(anomaly)} scored images are of"
            f" data.exclude_labels={tuple(config.data.exclude_labels)}: give both kinds; raise"
            " task.anomaly.num_images or set data.pooled_train_share"
        )


class Scores(NamedTuple):
    """The scores of N images from C chains each.

    Attributes:
        log_p_z, log_p_x_given_z: the two terms in nats, [C, N]; their sum is the score.
        mse: the mean of (x - g(z))² over an image's entries, [C, N].
        reconstruction: g(z) of the first chain, uint8 [N, H, W, C].
    """

    log_p_z: np.ndarray
    log_p_x_given_z: np.ndarray
    mse: np.ndarray
    reconstruction: np.ndarray

    @property
    def of_chains(self) -> np.ndarray:
        """The scores of all chains, float64 [C, N]."""
        return np.add(self.log_p_z, self.log_p_x_given_z, dtype=np.float64)


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Scores held-out images; those of `data.exclude_labels` are the anomalies.

    Raises:
        FloatingPointError: a score is not finite.
    """
    settings = config.task.anomaly
    images, anomaly = _scored(data, config), _are_anomalies(data, config)
    writer.describe(split=data.evaluated.name, range="[-1, 1]")
    own_score = trained.model.objective.score_name
    if own_score:
        writer.describe(score=own_score)
        return _by_own_score(trained, images, anomaly, writer)
    scores = _scores(trained, images, config)
    writer.describe(
        score="log p(x, z) in nats, mean over chains",
        num_chains=settings.num_chains,
        sigma=float(trained.model.sigma_of(trained.parameters)),
        score_sigma=settings.sigma or "the model's",
        inference=dict(config.eval_inference),
    )
    _draw(images, anomaly, scores, writer)
    return _figures(anomaly, scores)


def _by_own_score(
    trained: TrainedModel, images: np.ndarray, anomaly: np.ndarray, writer: ReportWriter
) -> dict[str, float]:
    """Figures and pictures for the score that the objective defines."""
    score = trained.score(images).astype(np.float64)
    writer.picture("precision_recall", _curve(anomaly, score))
    for name, rows in _telling(anomaly, score).items():
        writer.picture(name, plots.grid(from_uint8(images[rows])))
    return _areas(anomaly, score)


def _scored(data: Cache, config: ml_collections.ConfigDict) -> np.ndarray:
    """The images to score, uint8 [N, H, W, C]: some of the held-out ones, then of the excluded."""
    parts = [split.images for split in (data.held_out, data.excluded) if split is not None]
    return Split(np.concatenate(parts), None).spread(config.task.anomaly.num_images)


def _are_anomalies(data: Cache, config: ml_collections.ConfigDict) -> np.ndarray:
    """Whether each of the images to score is an anomaly, bool [N]."""
    sizes = [len(split.images) if split else 0 for split in (data.held_out, data.excluded)]
    anomaly = np.repeat([False, True], sizes)
    return Split(anomaly, None).spread(config.task.anomaly.num_images)


def _scores(
    trained: TrainedModel, images: np.ndarray, config: ml_collections.ConfigDict
) -> Scores:
    """Scores uint8 images. Raises FloatingPointError if a score is not finite."""
    settings = config.task.anomaly
    terms = np.empty((3, settings.num_chains, len(images)))
    reconstruction = np.empty_like(images)
    for chunk in chunks(len(images), settings.batch_size, "scoring"):
        x = from_uint8(images[chunk])
        for chain in range(settings.num_chains):
            inferred = trained.infer(
                images[chunk], config.seed, settings.batch_size, chain=chain, first=chunk.start
            )
            squares = np.square(x - inferred.reconstruction).reshape(len(x), -1)
            mse = squares.mean(axis=1)
            likelihood = inferred.log_p_x_given_z
            if settings.sigma:
                likelihood = _log_likelihood(mse, squares.shape[1], settings.sigma)
            terms[:, chain, chunk] = inferred.log_p_z, likelihood, mse
            if chain == 0:
                reconstruction[chunk] = to_uint8(inferred.reconstruction)
    scores = Scores(terms[0], terms[1], terms[2], reconstruction)
    if not np.isfinite(scores.of_chains).all():
        raise FloatingPointError(
            f"task anomaly: the score of"
            f" {np.count_nonzero(~np.isfinite(scores.of_chains).all(axis=0))}"
            " images is not finite; lower eval_inference.step_size"
        )
    return scores


def _areas(anomaly: np.ndarray, score: np.ndarray) -> dict[str, float]:
    return {
        "num_images": len(anomaly),
        "base_rate": float(anomaly.mean()),
        "auprc": auprc(anomaly, score),
        "average_precision": average_precision(anomaly, score),
    }


def _figures(anomaly: np.ndarray, scores: Scores) -> dict[str, float]:
    score, mse = scores.of_chains.mean(axis=0), scores.mse.mean(axis=0)
    return _areas(anomaly, score) | {
        "auprc_of_one_chain": float(np.mean([auprc(anomaly, one) for one in scores.of_chains])),
        "auprc_of_log_p_z": auprc(anomaly, scores.log_p_z.mean(axis=0)),
        "auprc_of_log_p_x_given_z": auprc(anomaly, scores.log_p_x_given_z.mean(axis=0)),
        "mse_of_normal_images": float(mse[~anomaly].mean()),
        "mse_of_anomalies": float(mse[anomaly].mean()),
    }


def _draw(
    images: np.ndarray, anomaly: np.ndarray, scores: Scores, writer: ReportWriter
) -> None:
    """Draws the pictures of the report."""
    score = scores.of_chains.mean(axis=0)
    writer.picture("precision_recall", _curve(anomaly, score))
    writer.picture("weights", _over_weights(anomaly, scores))
    for name, rows in _telling(anomaly, score).items():
        kinds = from_uint8(images[rows]), from_uint8(scores.reconstruction[rows])
        writer.picture(name, plots.pairs(*kinds))


def _telling(anomaly: np.ndarray, score: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of the images in each picture, by the picture's name."""
    order = np.argsort(score)
    rows = {
        "lowest_scores": order,
        "lowest_scores_of_normal_images": order[~anomaly[order]],
        "highest_scores_of_anomalies": order[::-1][anomaly[order[::-1]]],
    }
    return {name: found[:SHOWN] for name, found in rows.items()}


def _log_likelihood(mse: np.ndarray, entries: int, sigma: float) -> np.ndarray:
    """log N(x; g(z), sigma² I) in nats, from the mean squared error over an image's entries."""
    return -entries * (mse / (2 * sigma**2) + math.log(2 * math.pi * sigma**2) / 2)


def _curve(anomaly: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Draws the precision-recall curve and chance level, uint8 [height, width, 3]."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    precision, recall, _ = precision_recall_curve(anomaly, -score)
    axes.plot(recall, precision, label=f"area {auprc(anomaly, score):.3f}")
    chance = anomaly.mean()
    axes.axhline(chance, color="C0", linestyle=":", label=f"chance {chance:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return plots.drawn(figure)


def _over_weights(anomaly: np.ndarray, scores: Scores) -> np.ndarray:
    """Draws the AUPRC over the weight of log p(x|z) in the score, uint8 [height, width, 3].

    A weight c is the same as a sigma in log p(x|z) that is 1 / sqrt(c) times as large.
    """
    from matplotlib.figure import Figure

    log_p_z, log_p_x = scores.log_p_z.mean(axis=0), scores.log_p_x_given_z.mean(axis=0)
    areas = [auprc(anomaly, log_p_z + weight * log_p_x) for weight in WEIGHTS]
    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(WEIGHTS, areas, ".-", label="log p(z) + c log p(x given z)")
    axes.axvline(1, color="C0", linewidth=0.8, label="the score, c = 1")
    axes.axhline(auprc(anomaly, log_p_z), color="C2", label="log p(z) alone")
    axes.axhline(auprc(anomaly, log_p_x), color="C1", label="log p(x given z) alone")
    axes.axhline(anomaly.mean(), color="C0", linestyle=":", label="chance")
    axes.set(xscale="log", xlabel="weight c", ylabel="area under the precision-recall curve")
    axes.legend()
    return plots.drawn(figure)
