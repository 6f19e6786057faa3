"""Made-up images of any size, for smoke runs and benchmarks: no files, nothing to learn of use.

Every image is a soft-edged square of random colour, place and size on a random ground, so that a
model has something to fit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lfbm_jax.images import cache

NUM_IMAGES = 64
SEED = 0


def prepare(data: Any) -> cache.Cache:
    """The cache of `NUM_IMAGES` images; their label is whether the square is bright (1) or not."""
    return cache.fill(data, files=(), read=lambda: _read(data))


def _read(data: Any) -> cache.Reading:
    generator = np.random.default_rng(SEED)

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for _ in range(NUM_IMAGES):
            image, label = _image(generator, data.image_size, data.channels)
            yield ("train", label), image

    def arrange(keys: list[tuple[str, int]]) -> cache.Layout:
        return cache.by_split(keys, ["dark", "bright"])

    return cache.Reading(examples(), arrange, NUM_IMAGES)


def _image(
    generator: np.random.Generator, size: int, channels: int
) -> tuple[np.ndarray, int]:
    centre = generator.uniform(0.2, 0.8, (2, 1))
    radius = generator.uniform(0.1, 0.3)
    distance = np.abs(np.linspace(0, 1, size) - centre)  # [2, size]: of rows and of columns
    inside = np.clip((radius - np.maximum(distance[0][:, None], distance[1])) * size + 0.5, 0, 1)
    label = int(generator.integers(2))
    ground, colour = generator.uniform(0, 100, channels), generator.uniform(0, 100, channels)
    colour += 155 * label
    pixels = ground + inside[..., None] * (colour - ground)
    return np.round(pixels).astype(np.uint8), label
