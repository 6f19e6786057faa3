"""Turns held-out images into one another along the sphere of the flow's base.

See `TrainedModel.interpolate` for the path. If images have labels, there is one image per class, in
the order of the classes, and each turns into the next; else the images are spread over the split.

Figures, for pixels in [-1, 1]:
    num_images: the number of images, which is also the number of paths.
    mean_step: the root mean squared difference between neighbours on a path.
    largest_step: the largest such difference; a multiple of the mean where a path jumps.
"""

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 10, "num_steps": 12}  # num_steps: images per path, with both ends
SMOKE = {"num_images": 3, "num_steps": 4}


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if there are too few images for a path."""
    for name, value in config.task.interpolate.items():
        if value < 2:
            raise UserError(f"task.interpolate.{name}={value}: must be at least 2")


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Draws a row per path, from the reconstruction of an image to that of the next.

    If a data set has no test split, training images are used, and the report says so.
    """
    settings, split = config.task.interpolate, data.evaluated
    images = _chosen(split, settings.num_images)
    following = np.roll(images, -1, axis=0)
    paths = trained.interpolate(images, following, settings.num_steps, config.seed)
    writer.describe(split=split.name, range="[-1, 1]", inference=dict(config.eval_inference))
    writer.picture("paths", plots.grid(np.concatenate(paths), columns=settings.num_steps))
    squares = np.square(np.diff(paths, axis=1), dtype=np.float64)
    steps = np.sqrt(squares.mean(axis=(2, 3, 4)))
    return {
        "num_images": len(images),
        "mean_step": float(steps.mean()),
        "largest_step": float(steps.max()),
    }


def _chosen(split: Split, count: int) -> np.ndarray:
    """At most `count` images [N, H, W, C]: the first of every class, if several are known."""
    if split.labels is None:
        return split.spread(count)
    classes, rows = np.unique(split.labels, return_index=True)
    rows = rows[classes >= 0]  # -1 stands for no label.
    return split.images[rows[:count]] if len(rows) > 1 else split.spread(count)
