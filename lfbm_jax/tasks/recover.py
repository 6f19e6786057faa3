"""Unsupervised recovery (section 4.6): the hidden pixels of the images that were learned from."""

import dataclasses
import functools

import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fills
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 1000, "batch_size": 100}  # 0: all training images
SMOKE = {"num_images": 6, "batch_size": 4}

SHOWN = 20


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where no training image is occluded."""
    if not config.data.mask:
        raise UserError(
            "task recover needs occluded training images: set data.mask, or use the variant"
            " --config=FILE:mask=salt_and_pepper:0.5"
        )


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Recovers `task.recover.num_images` training images (0: all), spread over the split.

    Figures, mean squared errors for x in [-1, 1]: `mse_hidden`, of g(z) at the hidden pixels, as
    in Table 5; the same of simple fills, which like the model use the visible pixels only: the
    mean of the training images that show a pixel, interpolation, and the median of what lies
    around (see `lfbm_jax.metrics.fills`); and `mse_visible`, of g(z) at the visible pixels.
    """
    settings = config.task.recover
    masks_of = functools.partial(masks.of_training_images, config)
    rows = data.train.rows(settings.num_images)
    images, visible = data.train.images[rows], masks_of(rows)
    x, hidden = from_uint8(images), visible == 0
    occluded = x * visible
    writer.describe(
        split="train",
        range="[-1, 1]",
        mask=config.data.mask,
        num_train=len(data.train.images),
        inference=dataclasses.asdict(model.masked_inference),
        **model.caveat,
    )
    recovered = model.infer(
        images, config.seed, settings.batch_size, masks=visible
    ).reconstruction
    mean_image = fills.mean_image(data.train.images, masks_of)
    bilinear = fills.bilinear(occluded, visible)
    median = fills.median(occluded, visible)
    kinds = (x, occluded, recovered, bilinear, median)
    writer.picture("recoveries", plots.stacked([kind[:SHOWN] for kind in kinds]))
    return {
        "num_images": len(x),
        "hidden_share": float(hidden.mean()),
        "mse_hidden": fills.mse(x, recovered, hidden),
        "mse_hidden_of_mean_image": fills.mse(x, mean_image[None], hidden),
        "mse_hidden_of_bilinear_fill": fills.mse(x, bilinear, hidden),
        "mse_hidden_of_median_fill": fills.mse(x, median, hidden),
        "mse_visible": fills.mse(x, recovered, ~hidden),
    }
