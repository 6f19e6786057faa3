"""Draws artificial images of any size for smoke runs and benchmarks, which need no files.

Each image is a soft-edged square of random colour, position and size on a random background,
which a model can learn. Smoke runs train on three quarters of the images, which outnumber
the latent dimensions of all experiments, so that covariances exist. There are ten labels, as in the
data sets that the images stand in for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lfbm_jax.images import cache

NUM_IMAGES = 192
NUM_LABELS = 10
SEED = 0


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of `NUM_IMAGES` images, labelled by the brightness of the square.

    This module counts as the source's file, because another version of it may draw other images.
    """
    return cache.fill(data, files=(Path(__file__),), read=lambda: _read(data))


def _read(data: Any) -> cache.Reading:
    generator = np.random.default_rng(SEED)

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for i in range(NUM_IMAGES):
            label = i % NUM_LABELS
            yield ("train", label), _image(generator, data.image_size, data.channels, label)

    def arrange(keys: list[tuple[str, int]]) -> cache.Layout:
        return cache.by_split(keys, [f"brightness {label}" for label in range(NUM_LABELS)])

    return cache.Reading(examples(), arrange, NUM_IMAGES)


def _image(generator: np.random.Generator, size: int, channels: int, label: int) -> np.ndarray:
    centre = generator.uniform(0.2, 0.8, (2, 1))
    radius = generator.uniform(0.1, 0.3)
    distance = np.abs(np.linspace(0, 1, size) - centre)  # of rows and of columns, [2, size]
    inside = np.clip((radius - np.maximum(distance[0][:, None], distance[1])) * size + 0.5, 0, 1)
    ground, colour = generator.uniform(0, 100, channels), generator.uniform(0, 100, channels)
    colour += 155 * label / (NUM_LABELS - 1)
    pixels = ground + inside[..., None] * (colour - ground)
    return np.round(pixels).astype(np.uint8)
