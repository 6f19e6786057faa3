"""Simple ways to fill hidden pixels: what completion and recovery by a model must beat.

Masks are 1 where a pixel is visible; x is in [-1, 1].
"""

from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

from lfbm_jax.images.pixels import from_uint8

BLOCK = 1000  # images of a memory-mapped split looked at once


def mse(x: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Mean of (x - other)^2, both [N, H, W, C], over the pixels where `where` [N, H, W, 1] holds.

    Pixels weigh the same, whichever image they are of.
    """
    return float(np.mean(np.square(x - other), where=np.broadcast_to(where, x.shape)))


def mean_image(
    images: np.ndarray, masks_of: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """The mean over the images that show a pixel, for every pixel.

    A pixel that none shows gets the mean of all visible ones.

    Args:
        images: uint8 [N, H, W, C].
        masks_of: indices [n] -> masks [n, H, W, 1]; None where all pixels are visible.

    Returns:
        x, [H, W, C].
    """
    total = np.zeros(images.shape[1:])
    count = np.zeros(images.shape[1:])
    for index, block in _blocks(images, "mean image"):
        visible = np.ones_like(block) if masks_of is None else masks_of(index)
        total += np.sum(block * visible, axis=0, dtype=np.int64)
        count += np.sum(visible, axis=0, dtype=np.int64)
    overall = total.sum(axis=(0, 1)) / count.sum(axis=(0, 1))  # Of every channel.
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    return from_uint8(mean)


def nearest_images(x: np.ndarray, masks: np.ndarray, images: np.ndarray) -> np.ndarray:
    """For every x the image whose visible pixels are nearest to its own, by squared distance.

    Args:
        x: images, [M, H, W, C].
        masks: of these, [M, H, W, 1].
        images: uint8 [N, H, W, C], where to look.

    Returns:
        Images in [-1, 1], [M, H, W, C].
    """
    visible = np.broadcast_to(masks, x.shape).reshape(len(x), -1).astype(np.float32)
    wanted = visible * x.reshape(len(x), -1).astype(np.float32)
    least = np.full(len(x), np.inf, np.float32)
    nearest = np.zeros(len(x), int)
    for index, block in _blocks(images, "nearest image"):
        block = from_uint8(block.reshape(len(block), -1).astype(np.float32))
        # |m (x - y)|^2 without |m x|^2, which is the same for every y.
        distance = visible @ np.square(block).T - 2 * wanted @ block.T
        best = distance.argmin(axis=1)
        closer = distance[np.arange(len(x)), best] < least
        nearest[closer] = index[best[closer]]
        least = np.minimum(least, distance.min(axis=1))
    return from_uint8(images[nearest])


def bilinear(x: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Hidden pixels interpolated linearly between visible ones, over a triangulation of these.

    Outside of their convex hull the nearest visible pixel is taken.

    Args:
        x: images, [N, H, W, C].
        masks: of these, [N, H, W, 1].

    Returns:
        The filled images, [N, H, W, C].
    """
    return _image_by_image(_bilinear, x, masks, "bilinear fill")


def median(x: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Hidden pixels filled with the median of the visible ones around them, channel by channel.

    Around a pixel means in the smallest square centred at it that holds a visible one.

    Args:
        x: images, [N, H, W, C].
        masks: of these, [N, H, W, 1].

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
    except spatial.QhullError:  # The visible pixels lie on one line.
        return filled
    inside = np.isfinite(linear)
    filled[~visible] = np.where(inside, linear, filled[~visible])
    return filled


def _median(x: np.ndarray, visible: np.ndarray) -> np.ndarray:
    filled = x.copy()
    hidden = np.argwhere(~visible)
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
    bar = tqdm(pairs, total=len(x), desc=what, unit="image", delay=3, leave=False)
    return np.stack([fill(*pair) for pair in bar])


def _blocks(images: np.ndarray, what: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices and images, block by block, under a progress bar."""
    begins = range(0, len(images), BLOCK)
    for begin in tqdm(begins, desc=what, unit="block", delay=3, leave=False):
        block = images[begin : begin + BLOCK]
        yield np.arange(begin, begin + len(block)), block
