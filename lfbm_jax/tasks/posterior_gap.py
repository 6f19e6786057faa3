"""Measures how far the short-run chain is from the true posterior (section 3.3).

The distribution q_K(z|x) of a Langevin chain's z after K steps is compared with the posterior by

    KL(q_K(z|x) | p(z|x)) = log p(x) + E_q[log q_K(z|x)] - E_q[log p(x, z)]    in nats.

log p(x) is estimated by annealed importance sampling. The expected log q_K is bounded from both
sides (see `metrics.chain_density`), and so is the gap. If the prior is fitted after training, chain
and posterior are those of the model with its fitted prior, not those of training.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.metrics.annealed_importance import anneal, log_evidence
from lfbm_jax.metrics.chain_density import chain_densities
from lfbm_jax.model import Example, Model
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "num_images": 20,
    "num_steps": (1, 2, 5, 10, 20, 50, 100, 200),  # the K to measure, in ascending order
    "num_chains": 256,
    "num_temperatures": 500,
    "num_annealed": 32,  # chains of annealed importance sampling
    "batch_size": 4,
    "num_monitored": 0,  # images whose gap is logged every `train.sample_every` steps
}
# Methods whose last step adds Gaussian noise and which draw the start of their chains themselves.
MEASURED = ("langevin", "learned_start", "damc")
SMOKE = SETTINGS | {
    "num_images": 2,
    "num_steps": (1, 3),
    "num_chains": 8,
    "num_temperatures": 5,
    "num_annealed": 4,
}
NEEDS_POTENTIAL = True


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError unless `inference` is Langevin dynamics with noise and the K ascend."""
    if config.inference.name not in MEASURED or not config.inference.noise:
        raise UserError(
            f"tasks: posterior_gap measures Langevin chains with noise, not"
            f" inference.name={config.inference.name!r}; leave it out"
        )
    num_steps = tuple(config.task.posterior_gap.num_steps)
    settings = config.task.posterior_gap
    counts = ("num_images", "num_temperatures", "num_annealed")
    check_at_least_one("task.posterior_gap", **{name: settings[name] for name in counts})
    for name, least in (("num_chains", 2), ("num_monitored", 0)):
        if settings[name] < least:
            raise UserError(
                f"task.posterior_gap.{name}={settings[name]}: must be at least {least}"
            )
    if not num_steps or min(np.diff(num_steps, prepend=0)) < 1:
        raise UserError(f"task.posterior_gap.num_steps={num_steps}: must ascend from at least 1")


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Returns means over `task.posterior_gap.num_images` held-out images and draws them over K.

    Figures: `gap_at_least_K` and `gap_at_most_K`, the bounds in nats after K steps of `inference`,
    which are exact up to the error of log p(x); `log_p_x`, if the prior is normalised (the gap does
    not depend on its constant); and two figures of annealed importance sampling, the share of
    accepted transitions and the effective share of the chains. If the latter is near 1, log p(x)
    is reliable.
    """
    settings, split = config.task.posterior_gap, data.evaluated
    num_steps = tuple(settings.num_steps)
    found = _measure(trained, split.spread(settings.num_images), config)
    writer.describe(split=split.name, inference=dict(config.inference))
    writer.picture("gap", _plot(num_steps, found.lower, found.upper, config.inference.num_steps))
    figures = {"num_images": len(found.effective), **found.gaps(num_steps)}
    if trained.prior_is_normalized:
        figures["log_p_x"] = float(found.evidence.mean())
    return figures | {
        "annealing_acceptance": float(found.acceptance.mean()),
        "annealing_effective_share": float(found.effective.mean()),
    }


def monitor(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict
) -> dict[str, float]:
    """Returns the gaps of `task.posterior_gap.num_monitored` held-out images; {} if it is 0."""
    settings = config.task.posterior_gap
    if not settings.num_monitored:
        return {}
    images = data.evaluated.spread(settings.num_monitored)
    return _measure(trained, images, config).gaps(tuple(settings.num_steps))


class _Measured(NamedTuple):
    """What was measured for N images and K_1 < ... < K_M steps.

    Attributes:
        lower, upper: the bounds of the gap in nats, means over images, [M].
        evidence, acceptance, effective: log p(x) in nats, the share of accepted transitions of
            its annealing, and the effective share of the annealed chains, [N].
    """

    lower: np.ndarray
    upper: np.ndarray
    evidence: np.ndarray
    acceptance: np.ndarray
    effective: np.ndarray

    def gaps(self, num_steps: tuple[int, ...]) -> dict[str, float]:
        """The bounds by the figures' names."""
        figures: dict[str, float] = {}
        for k, low, high in zip(num_steps, self.lower, self.upper, strict=True):
            figures |= {f"gap_at_least_{k}": float(low), f"gap_at_most_{k}": float(high)}
        return figures


def _measure(
    trained: TrainedModel, images: np.ndarray, config: ml_collections.ConfigDict
) -> _Measured:
    """Measures the gap of images, uint8 [N, H, W, C]."""
    count = len(images)
    examples = Example(images, np.arange(count, dtype=np.int32), np.ones(count, np.float32))
    one_image = _measured_for(trained.model, config)
    batch_size = config.task.posterior_gap.batch_size
    increments, acceptance, parts = trained.map(one_image, examples, batch_size)
    evidence, effective = log_evidence(increments)
    log_joint, at_least, at_most = (np.mean(part, axis=0, dtype=np.float64) for part in parts)
    lower, upper = (evidence.mean() + bound - log_joint for bound in (at_least, at_most))
    return _Measured(lower, upper, evidence, acceptance, effective)


def _measured_for(model: Model, config: ml_collections.ConfigDict) -> Callable:
    """Makes a function (prepared parameters, example) -> the measurements for one image.

    These are the increments of the log-weights and the share of accepted transitions of annealed
    importance sampling, and the results of `chain_densities` for each K.
    """
    settings, chain = config.task.posterior_gap, model.inference

    def one_image(prepared, example):
        example = example._replace(image=to_unit_range(example.image))
        densities = model.log_joint(prepared, example.image)
        key = key_for(config.seed, Purpose.EVALUATION, example.index)
        annealing_key, chains_key = jax.random.split(key)
        annealed = anneal(
            lambda z: sum(densities(z)),
            annealing_key,
            chain.latent_dim,
            settings.num_annealed,
            settings.num_temperatures,
        )
        num_steps = tuple(settings.num_steps)
        parts = chain_densities(
            chain, prepared.phi, example, densities, chains_key, num_steps, settings.num_chains
        )
        return annealed.increments, annealed.acceptance, parts

    return one_image


def _plot(num_steps: tuple, lower: np.ndarray, upper: np.ndarray, trained: int) -> np.ndarray:
    from matplotlib.figure import Figure  # Slow to import, seldom needed.

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.add_subplot()
    axis.fill_between(num_steps, lower, upper, alpha=0.4, label="between the two bounds")
    axis.plot(num_steps, lower, ".-", num_steps, upper, ".-", color="C0")
    axis.axvline(trained, color="C1", linestyle="--", label=f"K = {trained}, as in training")
    axis.set(xscale="log", yscale="log", xlabel="Langevin steps K", ylabel="KL(q_K | p(z|x)), nats")
    axis.legend()
    return plots.drawn(figure)
