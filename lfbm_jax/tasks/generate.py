"""Image synthesis (section 4.2): ancestral sampling, the prior first, then the generator."""

import time

import ml_collections

from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fid
from lfbm_jax.metrics.features import CHUNK
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 1000, "batch_size": 100, "fid_num_images": 50_000}
SMOKE = {"num_images": 8, "batch_size": 4, "fid_num_images": 8}

GRID = 100


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where FID is asked for and could not be measured."""
    fid.check(config, config.task.generate.fid_num_images)


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Samples `task.generate.num_images` images, draws the first of them, and returns figures.

    Figures: the mean and standard deviation of the pixels in [-1, 1] over samples and over as many
    training images (`num_training_images`: all of them where there are fewer), the mean log p(z) of
    the sampled latent vectors in nats (where the prior is normalised), and milliseconds to
    synthesise a batch, of `task.generate.batch_size`. Where `metrics.inception_weights` is set,
    also FID and KID of `task.generate.fid_num_images` samples against the training images, under
    names that say so where these are not 50,000 and all (see `metrics.fid`); nothing stands in for
    them elsewhere.
    """
    settings = config.task.generate
    z, images = model.sample(settings.num_images, config.seed, settings.batch_size)
    begin = time.perf_counter()
    model.sample(settings.batch_size, config.seed, settings.batch_size)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    writer.describe(batch_size=settings.batch_size)
    writer.picture("samples", plots.grid(images[:GRID]))
    real = from_uint8(data.train.spread(settings.num_images))
    figures = {
        "num_images": len(images),
        "num_training_images": len(real),
        "pixel_mean": float(images.mean()),
        "pixel_stddev": float(images.std()),
        "training_pixel_mean": float(real.mean()),
        "training_pixel_stddev": float(real.std()),
        "time/milliseconds_per_batch": milliseconds,
    }
    if model.model.prior.normalized:
        figures["mean_log_p_z"] = float(model.log_prior(z).mean())
    if config.metrics.inception_weights:
        count = settings.fid_num_images
        samples = (
            model.sample(min(CHUNK, count - first), config.seed, settings.batch_size, first)[1]
            for first in range(0, count, CHUNK)
        )
        distances, setting = fid.measure(config, data, samples, count)
        writer.describe(**setting)
        figures |= distances
    return figures
