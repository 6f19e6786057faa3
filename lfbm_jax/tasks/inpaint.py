"""Completes images whose z is inferred from the visible pixels alone (section 4.3).

A completion is g(z) at the hidden pixels and the image itself at the visible ones.

Figures, for x in [-1, 1]:
    mse_hidden: the mean squared error over completions, images and hidden pixels, as in Table 3.
    mse_hidden_of_...: the same for the mean of an image's completions, for the mean training image,
        and for the training image that is nearest in the visible pixels.
    mse_visible: the mean squared error of g(z) at the visible pixels.
    mse_of_reconstruction: for comparison, the error of reconstructions from whole images.
    diversity: the standard deviation over an image's completions (root mean square over hidden
        pixels).
If `metrics.inception_weights` is set, also FID and KID of one completion per image against the
training images, with their number in the name (see `metrics.fid`).
"""

import dataclasses

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8, to_uint8
from lfbm_jax.metrics import fid, fills
from lfbm_jax.metrics.features import CHUNK
from lfbm_jax.metrics.means import Mean, RootMean, merged
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "num_images": 1000,  # 0: the whole test split
    "batch_size": 100,
    "num_completions": 10,  # per image, from different starts
    "mask": "center_box",  # see lfbm_jax.images.masks
}
SMOKE = {"num_images": 6, "batch_size": 4, "num_completions": 3}

SHOWN = 10


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the task's settings are invalid."""
    settings = config.task.inpaint
    masks.parse(settings.mask, config.data.image_size, "task.inpaint.mask")
    if settings.num_completions < 2:
        raise UserError(
            f"task.inpaint.num_completions={settings.num_completions}: must be at least 2"
        )
    fid.check(config, settings.num_images or 2)


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Completes `task.inpaint.num_images` test images (0: all), spread over the split.

    If a data set has no test split, training images are used, and the report says so.
    """
    settings, split = config.task.inpaint, data.evaluated
    rows = split.rows(settings.num_images)
    images = split.images[rows]
    mask = masks.parse(settings.mask, config.data.image_size, "task.inpaint.mask")
    visible = mask(config.seed, rows)
    own = rows if data.held_out is None else None
    nearest = fills.nearest(images, visible, data.train.images, own)
    mean_image = fills.mean_image(data.train.images)
    found, shown, completed = [], [], np.empty_like(images)
    for chunk in chunks(len(rows), settings.batch_size, "completing"):
        x, seen = from_uint8(images[chunk]), visible[chunk]
        decoded, whole = _decoded(trained, images[chunk], seen, chunk.start, config)
        fill_ins = mean_image[None], from_uint8(data.train.images[nearest[chunk]])
        found.append(_figures(x, seen, decoded, whole, *fill_ins))
        completions = np.where(seen, x, decoded)
        completed[chunk] = to_uint8(completions[0])
        if chunk.start < SHOWN:
            shown.append((x, x * seen, *completions))
    writer.describe(
        split=split.name,
        range="[-1, 1]",
        mask=settings.mask,
        inference=dataclasses.asdict(trained.masked_inference),
        **trained.caveat,
    )
    writer.picture("completions", _rows_of_images(plots.joined(shown, SHOWN)))
    counts = {"num_images": len(rows), "num_completions": settings.num_completions}
    return counts | merged(found) | _distances(config, data, completed, writer)


def _decoded(
    trained: TrainedModel,
    images: np.ndarray,
    visible: np.ndarray,
    first: int,
    config: ml_collections.ConfigDict,
) -> tuple[np.ndarray, np.ndarray]:
    """g(z) for K inferences of z from the visible pixels, [K, N, H, W, C], and for one from all."""
    settings = config.task.inpaint
    decoded = [
        trained.infer(
            images, config.seed, settings.batch_size, masks=visible, chain=chain, first=first
        ).reconstruction
        for chain in range(settings.num_completions)
    ]
    whole = trained.infer(images, config.seed, settings.batch_size, first=first)
    return np.stack(decoded), whole.reconstruction


def _figures(
    x: np.ndarray,
    visible: np.ndarray,
    decoded: np.ndarray,
    whole: np.ndarray,
    mean_image: np.ndarray,
    nearest: np.ndarray,
) -> dict[str, Mean]:
    """Returns the contribution of a chunk of images to the figures."""
    hidden = visible == 0
    squares = np.square(x - decoded)
    mean = np.mean(decoded, axis=0, dtype=np.float64)
    variance = np.var(decoded, axis=0, ddof=1, dtype=np.float64)
    return {
        "hidden_share": Mean.of(hidden),
        "mse_hidden": Mean.of(squares, hidden),
        "mse_hidden_of_mean_completion": Mean.of(np.square(x - mean), hidden),
        "mse_hidden_of_mean_image": Mean.of(np.square(x - mean_image), hidden),
        "mse_hidden_of_nearest_image": Mean.of(np.square(x - nearest), hidden),
        "mse_visible": Mean.of(squares, ~hidden),
        "mse_of_reconstruction": Mean.of(np.square(x - whole)),
        "diversity": RootMean.of(variance, hidden),
    }


def _rows_of_images(kinds: list[np.ndarray]) -> np.ndarray:
    """Draws one row per image: the image, its visible pixels, and its completions."""
    return plots.grid(np.concatenate(np.stack(kinds, axis=1)), columns=len(kinds))


def _distances(
    config: ml_collections.ConfigDict, data: Cache, completed: np.ndarray, writer: ReportWriter
) -> dict[str, float]:
    """FID and KID of completed uint8 images; {} without the weights of the FID network."""
    pieces = (completed[rows] for rows in chunks(len(completed), CHUNK))
    distances, setting = fid.measure(config, data, pieces, len(completed))
    writer.describe(**setting)
    return distances
