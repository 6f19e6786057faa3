"""Measures how fast long chains explore the posterior p(z|x), and what short runs miss of it.

Several chains per held-out image, of each kernel of the inference method `sampler`, start at draws
from N(0, I), adapt, and are then compared with each other by BlackJAX's diagnostics. Beside their
log p(x, z) stands that of z inferred as in training, by the config's section `inference`.

Figures, means over images:
    <kernel>_acceptance: the mean acceptance rate; for mclmc, the share of steps that were finite,
        the only ones that it does not take back.
    mclmc_energy_error: the squared error of the energy per dimension, of the finite steps, and 0 of
        the others.
    <kernel>_ess_share: the effective sample size, of the entry of z where it is least, divided by
        the number of draws of all chains.
    <kernel>_rhat: R-hat after rank normalisation (Vehtari et al. 2021), of the entry of z where it
        is greatest. Chains that agree have less than 1.01. There is none if chains never moved.
    <kernel>_log_joint: the mean log p(x, z) of the draws, in nats, up to the prior's constant.
    inference_log_joint: the same of z as training infers it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax.errors import UserError, check_at_least_one, did_you_mean
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.inference import sampler
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "kernels": tuple(sampler.ADAPTATIONS),
    "num_images": 20,
    "num_chains": 4,
    "num_warmup": 500,
    "num_draws": 500,  # per chain, after the warm-up
    "batch_size": 4,
}
SMOKE = SETTINGS | {"num_images": 2, "num_chains": 2, "num_warmup": 4, "num_draws": 8}
NEEDS_POTENTIAL = True


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if a kernel is unknown or BlackJAX missing, or numbers are too small."""
    settings = config.task.mixing
    if not settings.kernels:
        raise UserError("task.mixing.kernels is empty: name some, such as ('mala', 'nuts')")
    check_at_least_one(
        "task.mixing", num_images=settings.num_images, num_warmup=settings.num_warmup
    )
    for kernel in settings.kernels:
        if kernel not in sampler.ADAPTATIONS:
            near = did_you_mean(kernel, sampler.ADAPTATIONS)
            raise UserError(f"task.mixing.kernels has {kernel!r}: {near}")
        _sampler(kernel, config)
    for name, least in (("num_chains", 2), ("num_draws", 4)):
        if settings[name] < least:
            raise UserError(f"task.mixing.{name}={settings[name]}: must be at least {least}")


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Returns the figures above and draws log p(x, z) along the chains of the first image."""
    settings, split = config.task.mixing, data.evaluated
    images = split.spread(settings.num_images)
    count = len(images)
    examples = Example(images, np.arange(count, dtype=np.int32), np.ones(count, np.float32))
    sizes = {name: settings[name] for name in ("num_chains", "num_warmup", "num_draws")}
    writer.describe(split=split.name, inference=dict(config.inference), **sizes)
    figures: dict[str, float] = {"num_images": count}
    traces = {}
    for kernel in settings.kernels:
        one_image = _chains_of(kernel, trained.model, config)
        measured = trained.map(one_image, examples, settings.batch_size)
        traces[kernel] = measured.pop("log_joint")
        figures[f"{kernel}_log_joint"] = _mean(traces[kernel])
        finite = {name: values for name, values in measured.items() if np.isfinite(values).all()}
        figures |= {f"{kernel}_{name}": _mean(values) for name, values in finite.items()}
    inferred = trained.map(_inferred(trained.model, config), examples, settings.batch_size)
    figures["inference_log_joint"] = _mean(inferred)
    first = {kernel: trace[0] for kernel, trace in traces.items()}
    writer.picture("chains", _plot(first, inferred[0].mean()))
    return figures


def _sampler(kernel: str, config: ml_collections.ConfigDict) -> sampler.Inference:
    settings = config.task.mixing
    return sampler.Inference(
        config.model.latent_dim,
        kernel=kernel,
        num_warmup=settings.num_warmup,
        num_steps=settings.num_draws,
    )


def _chains_of(kernel: str, model: Model, config: ml_collections.ConfigDict) -> Callable:
    """Makes a function (prepared parameters, example) -> the measurements for one image.

    These are the figures of `kernel`, [], and "log_joint" of all draws, [chains, draws].
    """
    import blackjax

    part = _sampler(kernel, config)

    def one_image(prepared, example):
        log_joint = model.log_joint(prepared, to_unit_range(example.image))

        def one_chain(key):
            start_key, key = jax.random.split(key)
            start = jax.random.normal(start_key, (part.latent_dim,))
            chain = sampler.run(part, key, log_joint, start)
            # One by one, since decoding all draws at once would need much memory.
            values = jax.lax.map(lambda z: sum(log_joint(z)), chain.z)
            return chain, values

        chains, values = jax.vmap(one_chain)(_keys(config, example))
        # Entry by entry of z, because `rhat` subtracts arrays of different rank from each other.
        ess, rhat = (jax.vmap(measure, in_axes=2) for measure in (blackjax.ess, blackjax.rhat))
        return {name: jnp.mean(quality) for name, quality in chains.quality.items()} | {
            "ess_share": jnp.min(ess(chains.z)) / values.size,
            "rhat": jnp.max(rhat(chains.z)),
            "log_joint": values,
        }

    return one_image


def _inferred(model: Model, config: ml_collections.ConfigDict) -> Callable:
    """Makes a function (prepared parameters, example) -> log p(x, z), [chains], as in training."""

    def one_image(prepared, example):
        example = example._replace(image=to_unit_range(example.image))
        log_joint = model.log_joint(prepared, example.image)

        def one_chain(key):
            return sum(log_joint(model.inference.infer(prepared.phi, key, example, log_joint).z))

        return jax.vmap(one_chain)(_keys(config, example))

    return one_image


def _keys(config: ml_collections.ConfigDict, example: Example) -> jax.Array:
    key = key_for(config.seed, Purpose.EVALUATION, example.index)
    return jax.random.split(key, config.task.mixing.num_chains)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))


def _plot(traces: dict[str, np.ndarray], inferred: float) -> np.ndarray:
    from matplotlib.figure import Figure  # Slow to import, seldom needed.

    figure = Figure(figsize=(8, 2 * len(traces) + 1), layout="constrained")
    axes = figure.subplots(len(traces), squeeze=False, sharex=True)[:, 0]
    for axis, (kernel, trace) in zip(axes, traces.items(), strict=True):
        axis.plot(trace.T, linewidth=0.7)
        axis.axhline(inferred, color="black", linestyle="--", label="inferred as in training")
        axis.set(ylabel="log p(x, z), nats", title=f"{kernel}: {len(trace)} chains of one image")
    axes[0].legend()
    axes[-1].set(xlabel="draws after the warm-up")
    return plots.drawn(figure)
