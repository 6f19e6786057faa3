"""The leaky rectifier of generators and encoders."""

import jax
import jax.numpy as jnp

NEGATIVE_SLOPE = 0.2


@jax.custom_jvp
def leaky_relu(x: jax.Array) -> jax.Array:
    """max(x, 0.2 x). The sign of its value, which is kept anyway, decides the derivative.

    From the sign of x, as in `flax.linen.leaky_relu`, a TPU's compiler makes an array of its own.
    """
    return jnp.maximum(x, NEGATIVE_SLOPE * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(primals, tangents):
    value, (tangent,) = leaky_relu(*primals), tangents
    return value, jnp.where(value >= 0, tangent, NEGATIVE_SLOPE * tangent)
