"""Against Flax's, in value and in both derivatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.layers.leaky_relu import leaky_relu


def test_value_and_slopes():
    x = jnp.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0])
    found = jax.vmap(jax.value_and_grad(leaky_relu))(x)
    expected = jax.vmap(jax.value_and_grad(lambda x: nn.leaky_relu(x, 0.2)))(x)
    np.testing.assert_array_equal(found, expected)
    forwards = jax.jvp(leaky_relu, (x,), (jnp.ones_like(x),))
    np.testing.assert_array_equal(forwards, expected)
