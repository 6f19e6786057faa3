"""Reconstructs held-out images (section 4.2): infers z from each, then decodes it."""

import ml_collections
import numpy as np

from lfbm_jax.images.cache import Cache
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.metrics import fills
from lfbm_jax.metrics.means import Mean, merged
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 0, "batch_size": 100}  # 0: the whole test split
SMOKE = {"num_images": 6, "batch_size": 4}

SHOWN = 50


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Reconstructs `task.reconstruct.num_images` test images (0: all), spread over the split.

    If a data set has no test split, training images are used, and the report says so.

    Figures: `mse`, the mean over images and pixels of (x - g(z))^2 with x in [-1, 1], as in
    Table 2; the same for the mean training image, which any model must beat; and means over images
    of the log-densities at the inferred z, in nats, and of the diagnostics of the inference.
    """
    settings, split = config.task.reconstruct, data.evaluated
    rows = split.rows(settings.num_images)
    mean_image = fills.mean_image(data.train.images)
    found, shown = [], []
    for chunk in chunks(len(rows), settings.batch_size, "reconstructing"):
        images = split.images[rows[chunk]]
        x = from_uint8(images)
        inferred = trained.infer(images, config.seed, settings.batch_size, first=chunk.start)
        means = {
            "mse": np.square(x - inferred.reconstruction),
            "mse_of_mean_image": np.square(x - mean_image[None]),
            "mean_log_p_x_given_z": inferred.log_p_x_given_z,
        } | {f"mean_{name}": values for name, values in inferred.info.items()}
        if trained.prior_is_normalized:
            means["mean_log_p_z"] = inferred.log_p_z
        found.append({name: Mean.of(values) for name, values in means.items()})
        if chunk.start < SHOWN:
            shown.append((x, inferred.reconstruction))
    writer.describe(split=split.name, range="[-1, 1]", inference=dict(config.eval_inference))
    writer.picture("reconstructions", plots.stacked(plots.joined(shown, SHOWN)))
    return {"num_images": len(rows)} | merged(found)
