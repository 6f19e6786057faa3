"""Arranges images in pictures: in grids, or originals above their reconstructions."""


import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from lfbm_jax.images.pixels import to_uint8

# Small images are enlarged by whole factors until a grid is about this wide, in pixels.
TARGET_WIDTH = 640
GAP = 2


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arranges images in rows.

    Args:
        images: images [N, H, W, C] in [-1, 1]; C is 1 or 3.
        columns: the number of images per row; None for a square grid.

    Returns:
        A picture, uint8 [height, width, 3], on a white background.
    """
    images = to_uint8(images)
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    factor = max(1, round(TARGET_WIDTH / (columns * width)))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor, width * factor
    picture = np.full(
        (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        top = GAP + (i // columns) * (height + GAP)
        left = GAP + (i % columns) * (width + GAP)
        picture[top : top + height, left : left + width] = image
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def pairs(originals: np.ndarray, reconstructions: np.ndarray, columns: int = 10) -> np.ndarray:
    """Shows rows of originals, each above the row of their reconstructions.

    Args:
        originals, reconstructions: images [N, H, W, C] in [-1, 1]. An incomplete last row is left
            out unless it is the only one.
        columns: the number of images per row.
    """
    return stacked((originals, reconstructions), columns)


def stacked(kinds: Sequence[np.ndarray], columns: int = 10) -> np.ndarray:
    """Shows rows of images of the first kind, each above the same images of the second kind, etc.

    Args:
        kinds: for each kind, images [N, H, W, C] in [-1, 1]. An incomplete last row is left out
            unless it is the only one.
        columns: the number of images per row.
    """
    shape = kinds[0].shape
    columns = min(columns, shape[0])
    whole = shape[0] // columns * columns
    rows = np.stack([kind[:whole].reshape(-1, columns, *shape[1:]) for kind in kinds], axis=1)
    return grid(rows.reshape(-1, *shape[1:]), columns)


def joined(chunks: Iterable[Sequence[np.ndarray]], count: int) -> list[np.ndarray]:
    """Joins chunks that hold images of every kind; returns the first `count` images per kind."""
    return [np.concatenate(kind)[:count] for kind in zip(*chunks, strict=True)]


def save(picture: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Writes a uint8 picture [H, W, 3] as PNG, creating its folder, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return path


def drawn(figure: Any) -> np.ndarray:
    """Renders a matplotlib figure as a uint8 picture [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # Slow to import, seldom needed.

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
