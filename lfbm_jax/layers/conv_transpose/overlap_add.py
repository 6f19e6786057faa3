"""Transposed convolution as one matrix product and overlap-add, for any kernel and stride.

The full output (before cropping by the padding p) is divided into blocks of s x s pixels. Along one
axis, tap k = q s + r of the kernel adds input pixel i to pixel r of block i + q. The gradient in x
gathers the same blocks into windows and multiplies once.

Everything here is for one image; `layer` is a `conv_transpose.ConvTranspose`.
"""

from typing import Any

import jax
import jax.numpy as jnp


def lay_out(layer: Any, kernel: jax.Array) -> dict:
    """The matrices of the forward and backward products for a kernel [k, k, C, D].

    "forward" is [C, Qh, Qw, s, s, D], zero-padded if s does not divide the kernel size. "backward"
    is its transpose [Qh, Qw, s, s, D, C], stored so that gradients do not compute it each time.
    """
    missing = -layer.kernel_size % layer.stride
    padded = jnp.pad(kernel, ((0, missing), (0, missing), (0, 0), (0, 0)))
    taps = _blocks(padded, layer.stride)
    return {"forward": jnp.moveaxis(taps, 4, 0), "backward": jnp.moveaxis(taps, 4, -1)}


def forward(layer: Any, matrices: dict, x: jax.Array) -> jax.Array:
    """The layer's output [H', W', D] for x [H, W, C]; `matrices` come from `lay_out`."""
    stride, size, padding = layer.stride, layer.kernel_size, layer.padding
    taps = matrices["forward"]
    products = multiply(x, taps)  # [H, W, Qh, Qw, s, s, D]
    if x.shape[:2] == (1, 1):
        blocks: Any = products[0, 0]  # One pixel: nothing overlaps.
    else:
        last_row, last_column = taps.shape[1] - 1, taps.shape[2] - 1
        blocks = sum(
            jnp.pad(
                products[:, :, q, t],
                ((q, last_row - q), (t, last_column - t), (0, 0), (0, 0), (0, 0)),
            )
            for q in range(last_row + 1)
            for t in range(last_column + 1)
        )
    full = blocks.transpose(0, 2, 1, 3, 4)
    full = full.reshape(full.shape[0] * stride, full.shape[2] * stride, full.shape[4])
    end_row, end_column = ((n - 1) * stride + size - padding for n in x.shape[:2])
    return full[padding:end_row, padding:end_column]


def backward(layer: Any, matrices: dict, g: jax.Array) -> jax.Array:
    """The gradient of <g, y> in x, [H, W, C]; `matrices` come from `lay_out`."""
    stride, size, padding = layer.stride, layer.kernel_size, layer.padding
    taps = matrices["backward"]
    rows, columns = taps.shape[:2]
    height, width = ((n + 2 * padding - size) // stride + 1 for n in g.shape[:2])
    ends = (
        (height + rows - 1) * stride - padding - g.shape[0],
        (width + columns - 1) * stride - padding - g.shape[1],
    )
    padded = jnp.pad(g, ((padding, ends[0]), (padding, ends[1]), (0, 0)))
    blocks = _blocks(padded, stride)
    if (height, width) == (1, 1):
        windows = blocks[None, None]
    else:
        windows = jnp.stack(
            [
                jnp.stack([blocks[q : q + height, t : t + width] for t in range(columns)], axis=2)
                for q in range(rows)
            ],
            axis=2,
        )
    return multiply(windows, taps)  # windows: [H, W, Qh, Qw, s, s, D]


def multiply(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """[H, W, *inner] times [*inner, *outer] -> [H, W, *outer]; sums in at least float32."""
    inner = range(image.ndim - 2)
    return _contract(image, matrix, (tuple(i + 2 for i in inner), tuple(inner)))


def multiply_transposed(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """[H, W, D] times the transpose of [C, D] -> [H, W, C]; sums in at least float32."""
    return _contract(image, matrix, ((2,), (1,)))


def _contract(image, matrix, axes):
    accumulator = jnp.promote_types(image.dtype, jnp.float32)
    product = jax.lax.dot_general(
        image, matrix, (axes, ((), ())), preferred_element_type=accumulator
    )
    return product.astype(image.dtype)


def _blocks(image: jax.Array, side: int) -> jax.Array:
    """[H, W, ...] -> [H / side, W / side, side, side, ...]."""
    height, width, *rest = image.shape
    blocks = image.reshape(height // side, side, width // side, side, *rest)
    return blocks.swapaxes(1, 2)
