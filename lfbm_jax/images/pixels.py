"""The range of images: stored as uint8, computed with as x in [-1, 1]; stated once, here."""

import jax
import jax.numpy as jnp
import numpy as np

HALF_RANGE = 127.5  # uint8 values per unit of x


def to_unit_range(image: jax.Array) -> jax.Array:
    """uint8 image, or one in [-1, 1] already -> x in [-1, 1], in the default floating type."""
    x = image.astype(float)
    return x / HALF_RANGE - 1 if image.dtype == jnp.uint8 else x


def from_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 images on the host -> x in [-1, 1], float64."""
    return images / HALF_RANGE - 1


def to_uint8(x: np.ndarray) -> np.ndarray:
    """x, clipped to [-1, 1] -> uint8 images on the host, rounded to the nearest value."""
    return np.round((np.clip(x, -1, 1) + 1) * HALF_RANGE).astype(np.uint8)


def occlude(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x in [-1, 1] with the invisible pixels grey (0), so that nothing can make use of them."""
    return x if mask is None else x * mask
