"""The network of a diffusion model of one vector given another."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

NUM_WAVES = 8


class Denoiser(nn.Module):
    """Predicts the noise e in z_lambda, see `diffusion`: z_lambda itself plus a correction.

    A context is computed from the noise level and the given vector. In every layer it gates and
    shifts, as in the network of Yu et al. (2023), which is wider and has skips:

        h <- leaky_relu((W h + b) * sigmoid(A context + a) + B context).

    The last layer is zero-initialised, so that the prediction is z_lambda at first, which is right
    where there is nothing but noise.

    Attributes:
        width: width of all layers.
        num_layers: number of gated layers.
    """

    width: int
    num_layers: int

    @nn.compact
    def __call__(self, z: jax.Array, log_snr: jax.Array, given: jax.Array) -> jax.Array:
        """z_lambda [d], lambda [], the given vector [m] -> e [d]."""
        dense = functools.partial(nn.Dense, param_dtype=float)
        inputs = jnp.concatenate([_waves(log_snr).astype(z.dtype), nn.silu(given)])
        context = nn.silu(dense(self.width)(inputs))
        hidden = z
        for _ in range(self.num_layers):
            gate = nn.sigmoid(dense(self.width)(context))
            shift = dense(self.width, use_bias=False)(context)
            hidden = nn.leaky_relu(dense(self.width)(hidden) * gate + shift)
        return z + dense(len(z), kernel_init=nn.initializers.zeros)(hidden)


def flops(network: Denoiser, latent_dim: int, num_given: int) -> int:
    """Floating-point operations of one prediction, 2 per multiply-add, counting only products."""
    width, layers = network.width, network.num_layers
    products = (2 * NUM_WAVES + num_given) * width + 2 * latent_dim * width
    return 2 * (products + (3 * layers - 1) * width**2)


def _waves(log_snr: jax.Array) -> jax.Array:
    """Sines and cosines of the noise level's angle, which grows from 0 to pi / 2 with the noise."""
    angles = jnp.arctan(jnp.exp(-log_snr / 2)) * 2.0 ** jnp.arange(NUM_WAVES)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
