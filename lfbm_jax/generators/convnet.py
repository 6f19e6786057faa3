"""Top-down generators made of transposed convolutions (Tables 7 and 12)."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.generators import base
from lfbm_jax.layers import convolutions, spectral_norm
from lfbm_jax.layers.conv_transpose import ConvTranspose
from lfbm_jax.layers.leaky_relu import leaky_relu


@dataclasses.dataclass(frozen=True)
class Generator(base.Generator):
    """Applies transposed convolutions to z, taken as a 1 x 1 image of d channels.

    LeakyReLU (slope 0.2) follows each layer except the last, which ends in tanh. Table 12 prints
    LReLU for the last layer too, but since images are in [-1, 1], tanh is used, as in Table 7.

    Attributes:
        layers: (features, kernel size, stride, padding) of each layer, from z to the image. They
            must produce `image_shape`.
        spectral_norm: whether each kernel, as a matrix with one row per output channel, is divided
            by its largest singular value (Miyato et al., 2018).
    """

    layers: tuple[tuple[int, int, int, int], ...] = ()
    spectral_norm: bool = False

    def __post_init__(self):
        for layer in self.layers:
            if len(layer) != 4 or min(layer[:3]) < 1 or layer[3] < 0:
                raise UserError(
                    f"generator.layers: {tuple(layer)} is not (features, kernel size, stride,"
                    " padding) with positive features, kernel size and stride"
                )
        shape = self._shapes()[-1]
        if shape != tuple(self.image_shape):
            raise UserError(
                f"generator.layers={_plain(self.layers)} make images of shape {shape}, but the data"
                f" has {tuple(self.image_shape)}: change generator.layers or data.image_size"
            )

    def init(self, key: jax.Array) -> dict:
        """Draws parameters beta: Xavier-normal kernels [k, k, in, out] and uniform biases [out].

        Biases are within +-1 / sqrt(k² out), PyTorch's default.
        """
        convolutions = self._convolutions()
        kernel_key, bias_key = jax.random.split(key)
        # One draw for all layers compiles in a fraction of the time of one draw per layer.
        normal = _draw(jax.random.normal, kernel_key, [conv.kernel_shape for conv in convolutions])
        uniform = _draw(
            functools.partial(jax.random.uniform, minval=-1.0),
            bias_key,
            [(conv.out_channels,) for conv in convolutions],
        )
        beta = {}
        for i, conv in enumerate(convolutions):
            area, fan_sum = conv.kernel_size**2, conv.in_channels + conv.out_channels
            beta[f"layer_{i}"] = {
                "kernel": normal[i] * math.sqrt(2 / (area * fan_sum)),
                "bias": uniform[i] / math.sqrt(area * conv.out_channels),
            }
        return beta

    def prepare(self, beta: dict) -> dict:
        """Converts the kernels to the compute type and lays them out for each layer's products."""
        if self.spectral_norm:
            beta = jax.tree.map(spectral_norm.normalized, beta)
        return {
            f"layer_{i}": {
                "kernel": conv.prepare(self._cast(beta[f"layer_{i}"]["kernel"])),
                "bias": beta[f"layer_{i}"]["bias"],
            }
            for i, conv in enumerate(self._convolutions())
        }

    def apply(self, prepared: dict, z: jax.Array) -> jax.Array:
        """Returns the mean image g(z) in [-1, 1], [H, W, C], of z [d]."""
        convolutions = self._convolutions()
        image = self._cast(z)[None, None, :]
        for i, conv in enumerate(convolutions):
            layer = prepared[f"layer_{i}"]
            image = conv.apply(layer["kernel"], image)
            # The bias keeps its own type. Its gradient is a sum over all pixels of a batch, and in
            # bfloat16 a sum stops growing once its terms are below half of its last digit.
            image = (image + layer["bias"][None, None, :]).astype(image.dtype)
            if i < len(convolutions) - 1:
                image = leaky_relu(image)
        return jnp.tanh(image.astype(z.dtype))

    def flops(self) -> int:
        """Floating-point operations of a forward pass per image, 2 per multiply-add.

        A layer counts input size² * in * kernel² * out products, as in the direct computation.
        """
        return sum(
            2 * h * w * conv.in_channels * conv.kernel_size**2 * conv.out_channels
            for conv, (h, w, _) in zip(self._convolutions(), self._shapes(), strict=False)
        )

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows all layers but the last, which makes the image."""
        *hidden, last = settings["layers"]
        return settings | {"layers": (*convolutions.narrowed(hidden), last)}

    def _cast(self, array: jax.Array) -> jax.Array:
        return array if self.dtype is None else array.astype(self.dtype)

    def _shapes(self) -> list[tuple[int, int, int]]:
        """The shapes [H, W, C] of the input and of the output of each layer."""
        shapes = [(1, 1, self.latent_dim)]
        for features, kernel, stride, padding in self.layers:
            side = (shapes[-1][0] - 1) * stride - 2 * padding + kernel
            shapes.append((side, side, features))
        return shapes

    def _convolutions(self) -> list[ConvTranspose]:
        return [
            ConvTranspose(
                kernel_size=kernel,
                stride=stride,
                padding=padding,
                in_channels=channels,
                out_channels=features,
                input_shape=(side, side),
            )
            for (features, kernel, stride, padding), (side, _, channels) in zip(
                self.layers, self._shapes(), strict=False
            )
        ]


def _draw(distribution, key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """Draws independent arrays of the given shapes in one call of a distribution."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = jnp.split(distribution(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _plain(layers) -> list:
    return [list(layer) for layer in layers]
