"""Synthesises images (section 4.2): draws z from the prior, then decodes it."""

import time

import ml_collections
import numpy as np

from lfbm_jax.errors import check_at_least_one
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fid
from lfbm_jax.metrics.features import CHUNK
from lfbm_jax.metrics.means import Deviation, Mean, merged
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel
from lfbm_jax.trained.programs import Samples

SETTINGS = {"num_images": 1000, "batch_size": 100, "fid_num_images": 50_000}
SMOKE = {"num_images": 8, "batch_size": 4, "fid_num_images": 8}

GRID = 100


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if no image is asked for, or FID is and cannot be measured."""
    check_at_least_one("task.generate", num_images=config.task.generate.num_images)
    fid.check(config, config.task.generate.fid_num_images)


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Samples `task.generate.num_images` images, draws the first of them, and returns figures.

    Figures: the mean and standard deviation of the pixels in [-1, 1], over samples and over as many
    training images (`num_training_images`, all of them if there are fewer); the mean log p(z) of
    the sampled latent vectors in nats, if the prior is normalised; and milliseconds to synthesise a
    batch of `task.generate.batch_size`. If `metrics.inception_weights` is set, also FID and KID of
    `task.generate.fid_num_images` samples against the training images. Their names say so if these
    are not 50,000 samples and all training images (see `metrics.fid`).
    """
    settings = config.task.generate
    rows = data.train.rows(settings.num_images)
    writer.describe(batch_size=settings.batch_size)
    counts = {"num_images": settings.num_images, "num_training_images": len(rows)}
    sampled = _of_samples(trained, config, writer)
    return (
        counts
        | sampled
        | _of_training_images(data, rows, settings.batch_size)
        | {"time/milliseconds_per_batch": _milliseconds(trained, config)}
        | _distances(trained, data, config, writer)
    )


def _of_samples(
    trained: TrainedModel, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Returns figures of the samples and draws the first of them."""
    settings = config.task.generate
    found, shown = [], []
    for chunk in chunks(settings.num_images, settings.batch_size, "sampling"):
        z, images = _samples(trained, config, chunk)
        figures = {"pixel_mean": Mean.of(images), "pixel_stddev": Deviation.of(images)}
        if trained.prior_is_normalized:
            figures["mean_log_p_z"] = Mean.of(trained.log_prior(z, settings.batch_size))
        found.append(figures)
        if chunk.start < GRID:
            shown.append([images])
    writer.picture("samples", plots.grid(plots.joined(shown, GRID)[0]))
    return merged(found)


def _of_training_images(data: Cache, rows: np.ndarray, batch_size: int) -> dict[str, float]:
    found = []
    for chunk in chunks(len(rows), batch_size):
        x = from_uint8(data.train.images[rows[chunk]])
        found.append(
            {"training_pixel_mean": Mean.of(x), "training_pixel_stddev": Deviation.of(x)}
        )
    return merged(found)


def _milliseconds(trained: TrainedModel, config: ml_collections.ConfigDict) -> float:
    """Measures the milliseconds per batch of samples. The functions are already compiled."""
    batch = slice(0, config.task.generate.batch_size)
    begin = time.perf_counter()
    _samples(trained, config, batch)
    return 1e3 * (time.perf_counter() - begin)


def _distances(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """FID and KID of samples; {} without the weights of the FID network."""
    count = config.task.generate.fid_num_images
    images = (_samples(trained, config, chunk).images for chunk in chunks(count, CHUNK))
    distances, setting = fid.measure(config, data, images, count)
    writer.describe(**setting)
    return distances


def _samples(
    trained: TrainedModel, config: ml_collections.ConfigDict, chunk: slice
) -> Samples:
    """Draws the samples with numbers from `chunk.start` to `chunk.stop` - 1."""
    count, batch_size = chunk.stop - chunk.start, config.task.generate.batch_size
    return trained.sample(count, config.seed, batch_size, first=chunk.start)
