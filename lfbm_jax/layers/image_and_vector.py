"""A network that maps an image together with a latent vector to a number."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.layers.convolutions import Convolutions
from lfbm_jax.layers.leaky_relu import leaky_relu


class ImageAndVector(nn.Module):
    """Convolutions of the image, whose output joins z in a perceptron with one hidden layer.

    Attributes:
        layers: (features, kernel size, stride, padding) of the convolutions.
        width: the length of the convolutions' output.
        hidden_width: the width of the hidden layer, which sees the image's features and z.
        dtype: the type in which the convolutions compute; None for that of image and parameters.
    """

    layers: tuple[tuple[int, int, int, int], ...]
    width: int
    hidden_width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, image: jax.Array, z: jax.Array) -> jax.Array:
        """x [H, W, C] in [-1, 1] and z [d] -> [], in the type of the image."""
        xavier = nn.initializers.xavier_normal()
        features = leaky_relu(Convolutions(self.layers, self.width, self.dtype)(image))
        joined = jnp.concatenate([features, z.astype(features.dtype)])
        hidden = nn.Dense(self.hidden_width, param_dtype=float, kernel_init=xavier)(joined)
        (value,) = nn.Dense(1, param_dtype=float, kernel_init=xavier)(leaky_relu(hidden))
        return value
