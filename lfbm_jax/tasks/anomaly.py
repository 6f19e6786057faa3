"""Anomaly detection (section 4.4): images of a class left out of training should score low."""

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 0, "batch_size": 100, "num_chains": 1}  # 0: the whole test split
SMOKE = {"num_images": 0, "batch_size": 16, "num_chains": 2}

SHOWN = 40
NORMAL_SHARE = 0.2  # of the 80/20 protocol: so many of the normal images are scored


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where no class is held out, or no chain is run."""
    num_chains = config.task.anomaly.num_chains
    if num_chains < 1:
        raise UserError(f"task.anomaly.num_chains={num_chains}: must be at least 1")
    if not config.data.exclude_labels:
        raise UserError(
            "data.exclude_labels=(): task anomaly scores images of a class left out of training;"
            " name one, as --config=configs/mnist_anomaly.py:digit=1 does"
        )


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Scores test images; those of `data.exclude_labels` are the anomalies.

    The score is log p(x, z) = log p_alpha(z) + log p_beta(x|z) in nats, averaged over
    `task.anomaly.num_chains` chains from different starts. Low is anomalous. The constant of
    log p_beta counts every pixel; the paper prints it once, which ranks the images alike.

    Figures: `auprc`, the area under the precision-recall curve (average precision) with the
    anomalies as the positive class, on `task.anomaly.num_images` test images spread over the split
    (0: all), and `base_rate`, their share, which is what chance would reach; the mean over chains
    of what a single one reaches; what each of the two terms reaches alone.

    Earlier work may have trained on 80 % of the normal images and scored the other 20 % with all
    anomalies. `auprc_80_20` is for this base rate: the same test images with as many of the
    anomalous training images, none of which was trained on, as it takes.

    Raises:
        UserError: the images have no labels, there is no test split, or the scored images are all
            normal or all anomalies.
        FloatingPointError: a score is not finite.
    """
    settings = config.task.anomaly
    labels = tuple(config.data.exclude_labels)
    if data.test is None or data.test.labels is None:
        raise UserError("task anomaly needs labels and a test split: leave it out of tasks")
    test = _every(data.test, settings.num_images)
    more = _anomalies_for_80_20(data, test, labels)
    images = np.concatenate([test.images, more.images])
    anomaly = np.isin(np.concatenate([test.labels, more.labels]), labels)
    tested = np.arange(len(images)) < len(test.images)
    if anomaly[tested].all() or not anomaly[tested].any():
        raise UserError(
            f"task anomaly: {anomaly[tested].sum()} of the {len(test.images)} scored images are of"
            f" data.exclude_labels={labels}: it takes both kinds, raise task.anomaly.num_images"
        )
    chains = [
        model.infer(images, config.seed, settings.batch_size, chain=chain)
        for chain in range(settings.num_chains)
    ]
    log_p_z = np.stack([chain.log_p_z for chain in chains])
    log_p_x_given_z = np.stack([chain.log_p_x_given_z for chain in chains])
    scores = log_p_z + log_p_x_given_z
    if not np.isfinite(scores).all():
        raise FloatingPointError(
            f"task anomaly: the score of {np.count_nonzero(~np.isfinite(scores).all(axis=0))}"
            " images is not finite; lower eval_inference.step_size"
        )
    score = scores.mean(axis=0)
    writer.describe(
        split=data.test_name,
        anomaly_labels=labels,
        score="log p(x, z) in nats, mean over chains",
        num_chains=settings.num_chains,
        sigma=config.model.sigma,
        inference=dict(config.eval_inference),
    )
    writer.picture("precision_recall", _curves(anomaly, score, tested))
    lowest = np.argsort(score[tested])[:SHOWN]
    writer.picture(
        "lowest_scores",
        plots.pairs(from_uint8(test.images[lowest]), chains[0].reconstruction[lowest]),
    )

    def of_test(score):
        return auprc(anomaly[tested], score[tested])

    return {
        "num_images": int(tested.sum()),
        "base_rate": float(anomaly[tested].mean()),
        "auprc": of_test(score),
        "auprc_of_one_chain": float(np.mean([of_test(one) for one in scores])),
        "auprc_of_log_p_x_given_z": of_test(log_p_x_given_z.mean(axis=0)),
        "auprc_of_log_p_z": of_test(log_p_z.mean(axis=0)),
        "num_images_80_20": len(images),
        "base_rate_80_20": float(anomaly.mean()),
        "auprc_80_20": auprc(anomaly, score),
        "mse_of_normal_images": _mse(images, chains, tested & ~anomaly),
        "mse_of_anomalies": _mse(images, chains, tested & anomaly),
    }


def auprc(anomaly: np.ndarray, score: np.ndarray) -> float:
    """The area under the precision-recall curve, as average precision.

    Args:
        anomaly: whether an image is one, bool [N]; the positive class.
        score: low where the model thinks so, [N].
    """
    from sklearn.metrics import average_precision_score  # Every command lists the tasks.

    return float(average_precision_score(anomaly, -score))


def _every(split: Split, count: int) -> Split:
    """`count` examples spread evenly over a split, all of them where count is 0."""
    rows = split.rows(count)
    return Split(split.images[rows], split.labels[rows])


def _anomalies_for_80_20(data: Cache, test: Split, labels: tuple) -> Split:
    """Training images of the held-out classes that bring their share up to the 80/20 protocol's.

    There 20 % of all normal images stand beside all anomalies.
    """
    every = np.isin(np.concatenate([data.train.labels, data.test.labels]), labels)
    anomalies_per_normal = every.sum() / (NORMAL_SHARE * max(1, (~every).sum()))
    anomaly = np.isin(test.labels, labels)
    missing = round(anomalies_per_normal * (~anomaly).sum()) - anomaly.sum()
    rows = np.flatnonzero(np.isin(data.train.labels, labels))[: max(0, missing)]
    return Split(data.train.images[rows], data.train.labels[rows])


def _mse(images: np.ndarray, chains: list, which: np.ndarray) -> float:
    """Mean over chains, images and pixels of (x - g(z))^2, x in [-1, 1]."""
    x = from_uint8(images[which])
    return float(np.mean([np.mean(np.square(x - c.reconstruction[which])) for c in chains]))


def _curves(anomaly: np.ndarray, score: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """The precision-recall curves of both protocols, uint8 [height, width, 3]."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name, colour, rows in (
        ("test split", "tab:blue", tested),
        ("80/20 protocol", "tab:orange", np.ones_like(tested)),
    ):
        precision, recall, _ = precision_recall_curve(anomaly[rows], -score[rows])
        area = auprc(anomaly[rows], score[rows])
        axes.step(recall, precision, where="post", color=colour, label=f"{name}: {area:.3f}")
        chance = anomaly[rows].mean()
        axes.axhline(chance, color=colour, linestyle=":", label=f"chance: {chance:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return plots.drawn(figure)
