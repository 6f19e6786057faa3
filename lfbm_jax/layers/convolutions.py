"""The bottom-up network of an encoder: convolutions from an image to a vector (Table 8)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError
from lfbm_jax.layers.leaky_relu import leaky_relu


class Convolutions(nn.Module):
    """Convolutions with LeakyReLU (slope 0.2), then one whose kernel covers the remaining image.

    The final convolution is the last row of Table 8: 4 x 4 on a 4 x 4 image. Kernels are
    initialised Xavier-normal and biases to zero (ours; the paper does not say).

    Attributes:
        layers: (features, kernel size, stride, padding) for every convolution but the last.
        features: length of the output vector.
        dtype: the type in which the convolutions compute; None for that of image and parameters.
    """

    layers: tuple[tuple[int, int, int, int], ...]
    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """x [H, W, C] -> [features], in the type of the image."""
        hidden = image
        for features, kernel_size, stride, padding in self.layers:
            hidden = nn.Conv(
                features,
                (kernel_size, kernel_size),
                (stride, stride),
                padding,
                dtype=self.dtype,
                param_dtype=float,
                kernel_init=nn.initializers.xavier_normal(),
                conv_general_dilated=convolve,
                promote_dtype=_promote_all_but_bias,
            )(hidden)
            hidden = leaky_relu(hidden.astype(self.dtype or image.dtype))
        last = nn.Dense(
            self.features, param_dtype=float, kernel_init=nn.initializers.xavier_normal()
        )
        return last(hidden.reshape(-1).astype(image.dtype))


def _promote_all_but_bias(
    *arrays: jax.Array | None, dtype: Any = None, inexact: bool = True
) -> list[jax.Array | None]:
    """flax's `promote_dtype`, except that the bias, whose gradient sums many pixels, is kept."""
    x, kernel, bias = arrays
    return [*nn.dtypes.promote_dtype(x, kernel, dtype=dtype, inexact=inexact), bias]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: list[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """Undilated `jax.lax.conv_general_dilated` of x [B, H, W, C] and a kernel [k, k, C, F].

    On a CPU, this is one matrix product of all windows, because XLA's CPU convolution takes twenty
    times as long inside a loop, as in training.
    """

    def windows_times_kernel(x, kernel):
        padded = jnp.pad(x, [(0, 0), *padding, (0, 0)])
        matrix = kernel.reshape(-1, kernel.shape[-1])
        sizes = zip(padded.shape[1:3], kernel.shape[:2], strides, strict=True)
        rows, columns = ((side - k) // stride + 1 for side, k, stride in sizes)
        if (rows, columns) == (1, 1):  # a dense layer, whose taps would be single pixels
            window = padded[:, : kernel.shape[0], : kernel.shape[1]]
            return window.reshape(-1, 1, 1, kernel[..., 0].size) @ matrix
        down, right = strides
        taps = [
            padded[:, i::down, j::right][:, :rows, :columns]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        ]
        return jnp.concatenate(taps, axis=-1) @ matrix

    def library(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)

    return jax.lax.platform_dependent(x, kernel, cpu=windows_times_kernel, default=library)


def check(layers: tuple, image_shape: tuple[int, int, int], field: str) -> None:
    """Raises a UserError that names the config's `field` if the layers do not fit the images."""
    if not layers:
        raise UserError(
            f"{field} is empty: give one (features, kernel size, stride, padding) for every"
            " convolution, or use a variant that has them, such as :vae"
        )
    for layer in layers:
        if len(layer) != 4 or min(layer[:3]) < 1 or layer[3] < 0:
            raise UserError(
                f"{field}: {tuple(layer)} is not (features, kernel size, stride, padding) with"
                " positive features, kernel size and stride"
            )
    for number, side in enumerate(_sides(layers, image_shape[0])):
        if side < 1:
            raise UserError(
                f"{field}: nothing is left of the image after layer {number} of {len(layers)};"
                " use fewer layers or smaller kernels and strides"
            )


def flops(layers: tuple, image_shape: tuple[int, int, int], features: int) -> int:
    """Floating-point operations per image: 2 per multiply-add, counting only products."""
    *_, channels = image_shape
    products = 0
    sides = _sides(layers, image_shape[0])
    for (out, kernel_size, *_), side in zip(layers, sides[1:], strict=True):
        products += side**2 * out * kernel_size**2 * channels
        channels = out
    return 2 * (products + sides[-1] ** 2 * channels * features)


def symmetric(generator_layers: tuple) -> tuple:
    """An encoder's layers that mirror a generator's, except the last, which `Convolutions` adds.

    Kernels, strides and paddings are in reverse order, and so are the features between the layers.
    """
    features = [layer[0] for layer in generator_layers[-2::-1]]
    shapes = [tuple(layer[1:]) for layer in generator_layers[:0:-1]]
    return tuple((f, *shape) for f, shape in zip(features, shapes, strict=True))


def _sides(layers: tuple, side: int) -> list[int]:
    """The number of rows of the image and of every layer's output."""
    sides = [side]
    for _, kernel_size, stride, padding in layers:
        sides.append((sides[-1] + 2 * padding - kernel_size) // stride + 1)
    return sides


def narrowed(layers: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The same layers (features, ...), with 1/64 of the features but at least 4."""
    return tuple((max(4, features // 64), *rest) for features, *rest in layers)
