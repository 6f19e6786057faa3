"""Image reconstruction (section 4.2): infer z from held-out images, then decode it."""

import ml_collections
import numpy as np

from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 0, "batch_size": 100}  # 0: the whole test split
SMOKE = {"num_images": 6, "batch_size": 4}

SHOWN = 50


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Reconstructs `task.reconstruct.num_images` test images (0: all), spread over the split.

    Where a data set has no test split these are training images, and the report says so.

    Figures: `mse`, the mean over images and pixels of (x - g(z))^2 with x in [-1, 1], as in
    Table 2; the same for the mean training image, the floor that any model must beat; and the
    means of the log-densities of what was inferred, in nats, and of the inference's diagnostics.
    """
    settings = config.task.reconstruct
    split, source = data.scored
    images = source.spread(settings.num_images)
    inferred = model.infer(images, config.seed, settings.batch_size)
    x = from_uint8(images)
    writer.describe(split=split, range="[-1, 1]", inference=dict(config.eval_inference))
    writer.picture("reconstructions", plots.pairs(x[:SHOWN], inferred.reconstruction[:SHOWN]))
    mean_image = from_uint8(np.mean(data.train.images, axis=0, dtype=np.float64))
    figures = {
        "num_images": len(x),
        "mse": float(np.mean(np.square(x - inferred.reconstruction))),
        "mse_of_mean_image": float(np.mean(np.square(x - mean_image))),
        "mean_log_p_x_given_z": float(inferred.log_p_x_given_z.mean()),
    }
    figures |= {f"mean_{name}": float(values.mean()) for name, values in inferred.info.items()}
    if model.model.prior.normalized:
        figures["mean_log_p_z"] = float(inferred.log_p_z.mean())
    return figures
