"""Simple ways to fill hidden pixels: baselines for completion and recovery by a model.

Masks are 1 where a pixel is visible; x is in [-1, 1].
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lfbm_jax.files import terminal
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import from_uint8

BLOCK = 1000  # images of a memory-mapped split that are read at a time


def mean_image(
    images: np.ndarray, masks_of: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """The mean image, where each pixel is averaged over the images in which it is visible.

    A pixel that is visible in no image gets the mean of all visible pixels.

    Args:
        images: uint8 [N, H, W, C].
        masks_of: indices [n] -> masks [n, H, W, 1]; None where all pixels are visible.

    Returns:
        x, [H, W, C].
    """
    total = np.zeros(images.shape[1:])
    count = np.zeros(images.shape[1:])
    for chunk in chunks(len(images), BLOCK, "mean image"):
        block = images[chunk]
        index = np.arange(chunk.start, chunk.stop)
        visible = np.ones_like(block) if masks_of is None else masks_of(index)
        total += np.sum(block * visible, axis=0, dtype=np.int64)
        count += np.sum(visible, axis=0, dtype=np.int64)
    overall = total.sum(axis=(0, 1)) / count.sum(axis=(0, 1))  # per channel
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    return from_uint8(mean)


def nearest(
    images: np.ndarray,
    masks: np.ndarray,
    training: np.ndarray,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """The image nearest to each occluded one, by squared distance over its visible pixels.

    Args:
        images: uint8 [M, H, W, C].
        masks: the masks of these, [M, H, W, 1].
        training: the images to search, uint8 [N, H, W, C].
        own: the index of each image in `training`, which is not searched, [M]; None if the images
            are not in it.

    Returns:
        Indices into `training`, [M].
    """
    least = np.full(len(images), np.inf, np.float32)
    found = np.zeros(len(images), int)
    for block in chunks(len(training), BLOCK, "nearest image"):
        y = _vectors(training[block])
        for chunk in chunks(len(images), BLOCK):
            visible = np.broadcast_to(masks[chunk], images[chunk].shape)
            visible = visible.reshape(len(visible), -1).astype(np.float32)
            wanted = visible * _vectors(images[chunk])
            # |m (x - y)|^2 without |m x|^2, which is the same for every y.
            distance = visible @ np.square(y).T - 2 * wanted @ y.T
            if own is not None:
                place = own[chunk] - block.start
                (inside,) = np.nonzero((place >= 0) & (place < len(y)))
                distance[inside, place[inside]] = np.inf
            best = distance.argmin(axis=1)
            closer = distance[np.arange(len(best)), best] < least[chunk]
            found[chunk][closer] = block.start + best[closer]
            least[chunk] = np.minimum(least[chunk], distance.min(axis=1))
    return found


def _vectors(images: np.ndarray) -> np.ndarray:
    """uint8 images [N, H, W, C] as x in [-1, 1], float32 [N, H W C]."""
    return from_uint8(images.reshape(len(images), -1).astype(np.float32))


def bilinear(x: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Fills hidden pixels by linear interpolation over a triangulation of the visible pixels.

    Outside the convex hull of the visible pixels, the nearest one is used.

    Args:
        x: images, [N, H, W, C].
        masks: the masks of x, [N, H, W, 1].

    Returns:
        The filled images, [N, H, W, C].
    """
    return _image_by_image(_bilinear, x, masks, "bilinear fill")


def median(x: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Fills hidden pixels with the median of the visible pixels around them, per channel.

    These are the visible pixels of the smallest centred square that holds any.

    Args:
        x: images, [N, H, W, C].
        masks: the masks of x, [N, H, W, 1].

    Returns:
        The filled images, [N, H, W, C].
    """
    return _image_by_image(_median, x, masks, "median fill")


def _bilinear(x: np.ndarray, visible: np.ndarray) -> np.ndarray:
    from scipy import interpolate, spatial  # Every command lists the tasks; few need these.

    places, hidden, values = np.argwhere(visible), np.argwhere(~visible), x[visible]
    filled = x.copy()
    filled[~visible] = interpolate.NearestNDInterpolator(places, values)(hidden)
    try:
        linear = interpolate.LinearNDInterpolator(places, values)(hidden)
    except spatial.QhullError:  # The visible pixels are on one line.
        return filled
    inside = np.isfinite(linear)
    filled[~visible] = np.where(inside, linear, filled[~visible])
    return filled


def _median(x: np.ndarray, visible: np.ndarray) -> np.ndarray:
    filled = x.copy()
    hidden: Sequence[Any] | np.ndarray = np.argwhere(~visible)
    for radius in range(1, max(visible.shape)):
        left = []
        for row, column in hidden:
            window = (
                slice(max(0, row - radius), row + radius + 1),
                slice(max(0, column - radius), column + radius + 1),
            )
            around = x[window][visible[window]]
            if len(around):
                filled[row, column] = np.median(around, axis=0)
            else:
                left.append((row, column))
        hidden = left
    return filled


def _image_by_image(fill: Callable, x: np.ndarray, masks: np.ndarray, what: str) -> np.ndarray:
    pairs = zip(x, masks[..., 0] > 0, strict=True)
    bar = terminal.bar(pairs, total=len(x), desc=what, unit="image", delay=3, leave=False)
    return np.stack([fill(*pair) for pair in bar])
