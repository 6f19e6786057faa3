"""What is drawn and measured during training: samples, reconstructions and the tasks' monitors."""

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
    """Writes pictures and returns figures to log; what needs a fitted prior waits for it."""
    figures = {}
    if trained.prior_is_fitted:
        figures["sample/log_p_z"] = _draw_samples(trained, writer)
        figures |= _monitor(trained, data)
    _draw_reconstructions(trained, data, writer)
    _draw_recoveries(trained, data, writer)
    return figures


def _draw_samples(trained: TrainedModel, writer: MetricsWriter) -> float:
    """Writes a grid of samples; their mean log p(z), in nats."""
    z, samples = trained.sample(SAMPLES, seed=trained.config.seed)
    writer.image(trained.step, "samples", plots.grid(samples))
    return float(trained.log_prior(z).mean())


def _draw_reconstructions(trained: TrainedModel, data: Cache, writer: MetricsWriter) -> None:
    """Writes held-out images above their reconstructions."""
    originals = data.evaluated.spread(RECONSTRUCTIONS)
    # Not padded to a larger batch: long chains cost much.
    inferred = trained.infer(originals, trained.config.seed, RECONSTRUCTIONS)
    picture = plots.pairs(from_uint8(originals), inferred.reconstruction)
    writer.image(trained.step, "reconstructions", picture)


def _draw_recoveries(trained: TrainedModel, data: Cache, writer: MetricsWriter) -> None:
    """Where training images are occluded, writes some: whole, occluded and recovered."""
    rows = data.train.rows(RECONSTRUCTIONS)
    visible = masks.of_training_images(trained.config, rows)
    if visible is None:
        return
    originals = data.train.images[rows]
    inferred = trained.infer(originals, trained.config.seed, RECONSTRUCTIONS, masks=visible)
    x = from_uint8(originals)
    picture = plots.stacked((x, x * visible, inferred.reconstruction))
    writer.image(trained.step, "recoveries", picture)


def _monitor(trained: TrainedModel, data: Cache) -> dict[str, float]:
    """What those of the config's tasks say that can be asked during training."""
    figures = {}
    for name in trained.config.tasks:
        found = build.task(name).monitor(trained, data, trained.config)
        figures |= {f"{name}/{figure}": value for figure, value in found.items()}
    return figures
