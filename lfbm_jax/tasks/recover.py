"""Recovers the hidden pixels of the training images (unsupervised recovery, section 4.6)."""

import dataclasses
import functools

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fills
from lfbm_jax.metrics.means import Mean, merged
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 1000, "batch_size": 100}  # 0: all training images
SMOKE = {"num_images": 6, "batch_size": 4}

SHOWN = 20


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the training images are not occluded."""
    if not config.data.mask:
        raise UserError(
            "task recover needs occluded training images: set data.mask, or use the variant"
            " --config=FILE:mask=salt_and_pepper:0.5"
        )


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Recovers `task.recover.num_images` training images (0: all), spread over the split.

    Figures, as mean squared errors for x in [-1, 1]: `mse_hidden`, of g(z) at the hidden pixels, as
    in Table 5; `mse_visible`, of g(z) at the visible pixels; and errors at the hidden pixels of
    three simple fills, which like the model use visible pixels only. They are the mean over the
    training images in which the pixel is visible, interpolation, and the median of visible pixels
    nearby (see `lfbm_jax.metrics.fills`).
    """
    settings = config.task.recover
    rows = data.train.rows(settings.num_images)
    mask = masks.parse(config.data.mask, config.data.image_size, "data.mask")
    masks_of = functools.partial(mask, config.seed)
    mean_image = fills.mean_image(data.train.images, masks_of)
    found, shown = [], []
    for chunk in chunks(len(rows), settings.batch_size, "recovering"):
        images, visible = data.train.images[rows[chunk]], masks_of(rows[chunk])
        recovered = trained.infer(
            images, config.seed, settings.batch_size, masks=visible, first=chunk.start
        ).reconstruction
        figures, kinds = _compare(from_uint8(images), visible, recovered, mean_image)
        found.append(figures)
        if chunk.start < SHOWN:
            shown.append(kinds)
    writer.describe(
        split=data.train.name,
        range="[-1, 1]",
        mask=config.data.mask,
        num_train=len(data.train.images),
        inference=dataclasses.asdict(trained.masked_inference),
        **trained.caveat,
    )
    writer.picture("recoveries", plots.stacked(plots.joined(shown, SHOWN)))
    return {"num_images": len(rows)} | merged(found)


def _compare(
    x: np.ndarray, visible: np.ndarray, recovered: np.ndarray, mean_image: np.ndarray
) -> tuple[dict[str, Mean], tuple[np.ndarray, ...]]:
    """Returns the figures of recovered and filled images, and the images to show."""
    hidden, occluded = visible == 0, x * visible
    bilinear, median = fills.bilinear(occluded, visible), fills.median(occluded, visible)
    figures = {
        "hidden_share": Mean.of(hidden),
        "mse_hidden": Mean.of(np.square(x - recovered), hidden),
        "mse_hidden_of_mean_image": Mean.of(np.square(x - mean_image[None]), hidden),
        "mse_hidden_of_bilinear_fill": Mean.of(np.square(x - bilinear), hidden),
        "mse_hidden_of_median_fill": Mean.of(np.square(x - median), hidden),
        "mse_visible": Mean.of(np.square(x - recovered), ~hidden),
    }
    return figures, (x, occluded, recovered, bilinear, median)
