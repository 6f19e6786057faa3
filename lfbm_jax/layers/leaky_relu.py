"""The leaky rectifier of generators and encoders."""

import jax
import jax.numpy as jnp

NEGATIVE_SLOPE = 0.2


@jax.custom_jvp
def leaky_relu(x: jax.Array) -> jax.Array:
    """max(x, 0.2 x), with a derivative that reads the sign of the output, which is kept anyway.

    `flax.linen.leaky_relu` reads the sign of x, for which a TPU's compiler stores another array.
    """
    return jnp.maximum(x, NEGATIVE_SLOPE * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(primals, tangents):
    value, (tangent,) = leaky_relu(*primals), tangents
    return value, jnp.where(value >= 0, tangent, NEGATIVE_SLOPE * tangent)
