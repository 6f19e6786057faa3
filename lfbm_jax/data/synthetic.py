"""Made-up images of any size, for smoke runs and benchmarks: no files, nothing to learn of use.

Every image is a soft-edged square of random colour, place and size on a random ground, so that a
model has something to fit. Three quarters of the images, which train in smoke runs, are more than
the experiments have latent dimensions, so that covariances exist; there are ten labels, as in the
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
    """The cache of `NUM_IMAGES` images; their label is how bright the square is.

    This module is the source's file: another version of it draws other images.
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
    distance = np.abs(np.linspace(0, 1, size) - centre)  # [2, size]: of rows and of columns
    inside = np.clip((radius - np.maximum(distance[0][:, None], distance[1])) * size + 0.5, 0, 1)
    ground, colour = generator.uniform(0, 100, channels), generator.uniform(0, 100, channels)
    colour += 155 * label / (NUM_LABELS - 1)
    pixels = ground + inside[..., None] * (colour - ground)
    return np.round(pixels).astype(np.uint8)
