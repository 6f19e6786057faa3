"""Draws samples and reconstructions during training, and runs the tasks' monitors."""

import contextlib
import math
from collections.abc import Iterator

from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.reports import plots
from lfbm_jax.runs import build
from lfbm_jax.runs.writers import MetricsWriter
from lfbm_jax.trained.api import TrainedModel

SAMPLES = 64
RECONSTRUCTIONS = 20


def draw(trained: TrainedModel, data: Cache, writer: MetricsWriter) -> dict[str, float]:
    """Writes pictures and returns figures to log. An unfitted prior is not sampled.

    Many draws of a flow may overflow while it learns. They cost the picture or the figures that
    need them, not the run: resumed, it would draw them again.
    """
    figures: dict[str, float] = {}
    if trained.prior_is_fitted:
        with _warning_of_overflows("no picture of samples"):
            figures["sample/log_p_z"] = _draw_samples(trained, writer)
        for name in trained.config.tasks:
            with _warning_of_overflows(f"{name} logs nothing"):
                found = build.task(name).monitor(trained, data, trained.config)
                figures |= {f"{name}/{figure}": value for figure, value in found.items()}
    for name in [name for name, value in figures.items() if not math.isfinite(value)]:
        print(f"warning: {name} is {figures.pop(name)} and is not logged", flush=True)
    _draw_reconstructions(trained, data, writer)
    _draw_recoveries(trained, data, writer)
    return figures


@contextlib.contextmanager
def _warning_of_overflows(what: str) -> Iterator[None]:
    """Turns a FloatingPointError into a warning that says what is missing."""
    try:
        yield
    except FloatingPointError as error:
        print(f"warning: {what}: {error}", flush=True)


def _draw_samples(trained: TrainedModel, writer: MetricsWriter) -> float:
    """Writes a grid of samples; returns their mean log p(z), in nats."""
    z, samples = trained.sample(SAMPLES, seed=trained.config.seed)
    writer.image(trained.step, "samples", plots.grid(samples))
    return float(trained.log_prior(z).mean())


def _draw_reconstructions(trained: TrainedModel, data: Cache, writer: MetricsWriter) -> None:
    """Writes held-out images, or training images if there are none, above their reconstructions."""
    originals = data.evaluated.spread(RECONSTRUCTIONS)
    # The batch is not padded, because long chains are expensive.
    inferred = trained.infer(originals, trained.config.seed, RECONSTRUCTIONS)
    picture = plots.pairs(from_uint8(originals), inferred.reconstruction)
    writer.image(trained.step, "reconstructions", picture)


def _draw_recoveries(trained: TrainedModel, data: Cache, writer: MetricsWriter) -> None:
    """Writes some images whole, occluded and recovered, if training images are occluded."""
    rows = data.train.rows(RECONSTRUCTIONS)
    visible = masks.of_training_images(trained.config, rows)
    if visible is None:
        return
    originals = data.train.images[rows]
    inferred = trained.infer(originals, trained.config.seed, RECONSTRUCTIONS, masks=visible)
    x = from_uint8(originals)
    picture = plots.stacked((x, x * visible, inferred.reconstruction))
    writer.image(trained.step, "recoveries", picture)
