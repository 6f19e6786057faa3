"""How far is the short-run chain from the true posterior (section 3.3)?

The distribution q_K(z|x) of a Langevin chain's z after K steps is compared with the posterior by

    KL(q_K(z|x) | p(z|x)) = log p(x) + E_q[log q_K(z|x)] - E_q[log p(x, z)]    in nats.

log p(x) is found by annealed importance sampling. The last step adds Gaussian noise to the mean m
that the steps before have led to, so q_K is a mixture of N(z; m, s^2 I) over all chains. With the
other chains' means alone in place of all possible ones the expected log q_K comes out too small,
with the chain's own mean among them too large (Yin and Zhou 2018; Molchanov et al. 2019): two
bounds, which meet as the number of chains grows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.inference import langevin
from lfbm_jax.inference.base import LogJoint
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import langevin_step
from lfbm_jax.metrics.annealed_importance import anneal, log_evidence
from lfbm_jax.model import Example
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "num_images": 20,
    "num_steps": (1, 2, 5, 10, 20, 50, 100, 200),  # the K to look at, in ascending order
    "num_chains": 256,
    "num_temperatures": 500,
    "num_annealed": 32,  # chains of annealed importance sampling
    "batch_size": 4,
}
SMOKE = SETTINGS | {
    "num_images": 2,
    "num_steps": (1, 3),
    "num_chains": 8,
    "num_temperatures": 5,
    "num_annealed": 4,
}


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where `inference` is no Langevin dynamics with noise, or the K do not ascend."""
    if config.inference.name != "langevin" or not config.inference.noise:
        raise UserError(
            f"tasks: posterior_gap looks at Langevin chains with noise, not at"
            f" inference.name={config.inference.name!r}; leave it out"
        )
    num_steps = tuple(config.task.posterior_gap.num_steps)
    if not num_steps or min(np.diff(num_steps, prepend=0)) < 1:
        raise UserError(f"task.posterior_gap.num_steps={num_steps}: must ascend from at least 1")


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Means over `task.posterior_gap.num_images` held-out images, and a picture over K.

    Figures: `gap_at_least_K` and `gap_at_most_K`, the two bounds in nats after K steps of
    `inference` (except for the error of log p(x)); `log_p_x` where the prior is normalised (the
    gap does not depend on its constant); of annealed importance sampling, the share of accepted
    transitions and the effective share of the chains: near 1, log p(x) is reliable.

    """
    settings = config.task.posterior_gap
    chain, num_steps = model.model.inference, tuple(settings.num_steps)
    split, source = data.scored
    images = source.spread(settings.num_images)
    count = len(images)
    examples = Example(images, np.arange(count, dtype=np.int32), np.ones(count, np.float32))

    def one_image(prepared, example):
        densities = model.model.log_joint(prepared, to_unit_range(example.image))
        key = key_for(config.seed, Purpose.EVALUATION, example.index)
        annealing_key, chains_key = jax.random.split(key)
        annealed = anneal(
            lambda z: sum(densities(z)),
            annealing_key,
            chain.latent_dim,
            settings.num_annealed,
            settings.num_temperatures,
        )
        parts = chain_densities(chain, densities, chains_key, num_steps, settings.num_chains)
        return annealed.increments, annealed.acceptance, parts

    increments, acceptance, parts = model.map(one_image, examples, settings.batch_size)
    evidence, effective = log_evidence(increments)
    log_joint, at_least, at_most = (np.mean(part, axis=0, dtype=np.float64) for part in parts)
    lower, upper = (evidence.mean() + bound - log_joint for bound in (at_least, at_most))
    writer.describe(split=split, inference=dict(config.inference))
    writer.picture("gap", _plot(num_steps, lower, upper, chain.num_steps))
    figures = {"num_images": count}
    for k, low, high in zip(num_steps, lower, upper, strict=True):
        figures |= {f"gap_at_least_{k}": float(low), f"gap_at_most_{k}": float(high)}
    if model.model.prior.normalized:
        figures["log_p_x"] = float(evidence.mean())
    return figures | {
        "annealing_acceptance": float(acceptance.mean()),
        "annealing_effective_share": float(effective.mean()),
    }


def chain_densities(
    chain: langevin.Inference,
    densities: LogJoint,
    key: jax.Array,
    num_steps: tuple[int, ...],
    num_chains: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means over M chains of one image after each K of `num_steps`, each [len(num_steps)].

    Returns:
        E_q[log p(x, z)], and bounds of E_q[log q_K(z|x)] from below and from above.
    """

    def log_joint(z):
        return sum(densities(z))

    def advance(key, z, steps):
        part = dataclasses.replace(chain, num_steps=steps)
        return part.infer({}, key, None, densities, z).z

    start_key, key = jax.random.split(key)
    z = jax.random.normal(start_key, (num_chains, chain.latent_dim))
    found, done = [], 0
    for k in num_steps:
        steps_key, noise_key = jax.random.split(jax.random.fold_in(key, k))
        if k - 1 > done:
            keys = jax.random.split(steps_key, num_chains)
            z = jax.vmap(advance, in_axes=(0, 0, None))(keys, z, k - 1 - done)
        # The last step apart: its mean is what q_K is made of.
        mean = langevin_step.drift(z, jax.vmap(jax.grad(log_joint))(z), chain.step_size)
        z = mean + chain.step_size * jax.random.normal(noise_key, mean.shape, mean.dtype)
        found.append((jnp.mean(jax.vmap(log_joint)(z)), *_mixture(z, mean, chain.step_size)))
        done = k
    return tuple(jnp.stack(values) for values in zip(*found, strict=True))


def _mixture(z: jax.Array, mean: jax.Array, stddev: float) -> tuple[jax.Array, jax.Array]:
    """Mean log-density of z [M, d] under N(z; mean_j, stddev^2 I): over the other j, over all j."""
    count = len(z)

    def log_components(z):
        return jnp.sum(jax.scipy.stats.norm.logpdf(z[None, :], mean, stddev), axis=1)

    log_density = jax.lax.map(log_components, z)
    others = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, log_density)
    return (
        jnp.mean(jax.nn.logsumexp(others, axis=1)) - jnp.log(count - 1),
        jnp.mean(jax.nn.logsumexp(log_density, axis=1)) - jnp.log(count),
    )


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
