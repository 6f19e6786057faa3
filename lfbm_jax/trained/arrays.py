"""Checks the images, masks and latent vectors given to a trained model and converts their types."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError


def images(x: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images [N, *shape]: uint8 unchanged, floats in JAX's default floating type.

    Raises:
        UserError: the shape or type is wrong, or a float is not finite or outside [-1, 1].
    """
    x = np.asarray(x)
    if x.shape[1:] != shape or not x.size:
        height, width, channels = shape
        raise UserError(
            f"images of shape {x.shape}: the model's are (N, {height}, {width}, {channels})"
        )
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"images of type {x.dtype}: give uint8, or floats in [-1, 1]")
    low, high = x.min(), x.max()  # NaN if any value is NaN.
    if not np.isfinite([low, high]).all():
        raise UserError("images with NaN or infinity: give finite values in [-1, 1]")
    if low < -1 or high > 1:
        raise UserError(
            f"images with values from {low:.6g} to {high:.6g}: floats must be in [-1, 1];"
            " give uint8 for values from 0 to 255"
        )
    return x.astype(jnp.result_type(float))


def masks(mask: Any, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns masks, uint8 [count, H, W, 1], which are 1 where a pixel is visible.

    Args:
        mask: zeros and ones, [H, W] for all images or [count, H, W]; a last axis of 1 may follow.
        count: the number of images.
        shape: the shape (H, W, C) of an image.

    Raises:
        UserError: the shape or a value is wrong, or an image has no visible pixel.
    """
    mask = np.asarray(mask)
    size = shape[:2]
    flat = mask[..., 0] if mask.shape[-3:] == (*size, 1) else mask
    if flat.shape not in (size, (count, *size)):
        raise UserError(
            f"a mask of shape {mask.shape}: give {size} for all images, or {(count, *size)}"
        )
    if not ((flat == 0) | (flat == 1)).all():
        raise UserError("a mask with values other than 1 (visible) and 0 (hidden)")
    visible = np.broadcast_to(flat, (count, *size)).astype(np.uint8)
    empty = np.flatnonzero(~visible.any(axis=(1, 2)))
    if empty.size:
        raise UserError(f"the mask hides all pixels of image {empty[0]}; leave some visible")
    return visible[..., None]


def latents(z: Any, latent_dim: int) -> np.ndarray:
    """Returns latent vectors [N, latent_dim] in the default floating type, or raises UserError."""
    z = np.asarray(z)
    if z.ndim != 2 or z.shape[1] != latent_dim or not len(z):
        raise UserError(f"latent vectors of shape {z.shape}: the model's are (N, {latent_dim})")
    if not np.issubdtype(z.dtype, np.number) or not np.isfinite(z).all():
        raise UserError("latent vectors with NaN or infinity, or not of a numeric type")
    return z.astype(jnp.result_type(float))


def check_count(num: int, least: int = 1) -> None:
    """Raises a UserError if a number of results is not an integer or is below `least`."""
    if not isinstance(num, int | np.integer) or num < least:
        raise UserError(f"num={num}: must be a whole number of at least {least}")
