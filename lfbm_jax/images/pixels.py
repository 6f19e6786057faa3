"""Converts between stored images (uint8) and images as the model sees them (x in [-1, 1])."""

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.model import Array

HALF_RANGE = 127.5  # uint8 values per unit of x


def to_unit_range(image: Array) -> Array:
    """Converts a uint8 image, or one already in [-1, 1], to floating x in [-1, 1]."""
    x = image.astype(float)
    return x / HALF_RANGE - 1 if image.dtype == jnp.uint8 else x


def from_uint8(images: np.ndarray) -> np.ndarray:
    """Converts uint8 images on the host to x in [-1, 1], float64."""
    return images / HALF_RANGE - 1


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Clips x to [-1, 1] and rounds it to uint8 images on the host."""
    return np.round((np.clip(x, -1, 1) + 1) * HALF_RANGE).astype(np.uint8)


def occlude(x: Array, mask: Array | None) -> Array:
    """Sets the invisible pixels of x in [-1, 1] to grey (0), so that nothing can use them."""
    return x if mask is None else x * mask


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """The image [H, W, C] or, with probability 1/2, its mirror image."""
    return jnp.where(jax.random.bernoulli(key), x, x[:, ::-1])
