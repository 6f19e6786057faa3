"""Supervised inpainting (section 4.3): z is inferred from the visible pixels of an image alone."""

import dataclasses

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fid, fills
from lfbm_jax.metrics.features import chunks
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {
    "num_images": 1000,  # 0: the whole test split
    "batch_size": 100,
    "num_completions": 10,  # of every image, from different starts
    "mask": "center_box",  # see lfbm_jax.images.masks
}
SMOKE = {"num_images": 6, "batch_size": 4, "num_completions": 3}

SHOWN = 10


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where the task's settings make no sense."""
    settings = config.task.inpaint
    masks.parse(settings.mask, config.data.image_size, "task.inpaint.mask")
    if settings.num_completions < 2:
        raise UserError(
            f"task.inpaint.num_completions={settings.num_completions}: must be at least 2"
        )
    fid.check(config, settings.num_images or 2)


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Completes `task.inpaint.num_images` test images (0: all), spread over the split.

    Where a data set has no test split these are training images, and the report says so. A
    completion is g(z) at the hidden pixels and the image itself at the visible ones.

    Figures, squared errors and deviations for x in [-1, 1]: `mse_hidden`, the mean over
    completions, images and hidden pixels, as in Table 3, and the same of the mean of an image's
    completions, of the mean training image and of the training image that is nearest in the
    visible pixels; `mse_visible`, of g(z) at the visible pixels, and beside it the error of
    reconstructing the whole images; `diversity`, the standard deviation over an image's
    completions (the root of its mean square over hidden pixels). Where
    `metrics.inception_weights` is set, also FID and KID of one completion of every image against
    the training images, named for how many they are (see `metrics.fid`).
    """
    settings = config.task.inpaint
    split, source = data.scored
    rows = source.rows(settings.num_images)
    images = source.images[rows]
    mask = masks.parse(settings.mask, config.data.image_size, "task.inpaint.mask")
    visible = mask(config.seed, rows)
    x, hidden = from_uint8(images), visible == 0
    writer.describe(
        split=split,
        range="[-1, 1]",
        mask=settings.mask,
        inference=dataclasses.asdict(model.masked_inference),
        **model.caveat,
    )

    mean, squares = np.zeros_like(x), np.zeros_like(x)  # Of all completions: Welford's recurrence.
    mse_hidden, mse_visible = [], []
    shown = [x[:SHOWN], x[:SHOWN] * visible[:SHOWN]]
    for chain in range(settings.num_completions):
        decoded = model.infer(
            images, config.seed, settings.batch_size, masks=visible, chain=chain
        ).reconstruction
        mse_visible.append(fills.mse(x, decoded, ~hidden))
        completion = np.where(hidden, decoded, x)
        mse_hidden.append(fills.mse(x, completion, hidden))
        shown.append(completion[:SHOWN])
        if chain == 0:
            first = completion
        change = completion - mean
        mean += change / (chain + 1)
        squares += change * (completion - mean)
    writer.picture(
        "completions", plots.grid(np.concatenate(np.stack(shown, axis=1)), columns=len(shown))
    )

    variance = squares / (settings.num_completions - 1)
    mean_image = fills.mean_image(data.train.images)
    nearest = fills.nearest_images(x, visible, data.train.images)
    whole = model.infer(images, config.seed, settings.batch_size).reconstruction
    figures = {
        "num_images": len(x),
        "num_completions": settings.num_completions,
        "hidden_share": float(hidden.mean()),
        "mse_hidden": float(np.mean(mse_hidden)),
        "mse_hidden_of_mean_completion": fills.mse(x, mean, hidden),
        "mse_hidden_of_mean_image": fills.mse(x, mean_image[None], hidden),
        "mse_hidden_of_nearest_image": fills.mse(x, nearest, hidden),
        "mse_visible": float(np.mean(mse_visible)),
        "mse_of_reconstruction": float(np.mean(np.square(whole - x))),
        "diversity": float(np.sqrt(np.mean(variance, where=np.broadcast_to(hidden, x.shape)))),
    }
    if config.metrics.inception_weights:
        distances, setting = fid.measure(
            config, data, chunks(first, np.arange(len(first))), len(first)
        )
        writer.describe(**setting)
        figures |= distances
    return figures
