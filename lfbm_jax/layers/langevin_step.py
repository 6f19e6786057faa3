"""One step of Langevin dynamics, Eq. 8, shared by posterior inference and the energy prior."""

import jax


def drift(z: jax.Array, gradient: jax.Array, step_size: jax.Array | float) -> jax.Array:
    """The mean of the next z, z + (s^2 / 2) gradient: one step of gradient ascent.

    Args:
        z: the current state of the chain, [d].
        gradient: the gradient of the log-density at z, [d].
        step_size: s, in units of z; the xi of Eq. 8 is s^2 / 2.
    """
    return z + 0.5 * step_size**2 * gradient


def step(
    z: jax.Array, gradient: jax.Array, step_size: jax.Array | float, noise: jax.Array
) -> jax.Array:
    """The next z, [d]: `drift` plus s times the standard normal `noise` [d], Eq. 8."""
    return drift(z, gradient, step_size) + step_size * noise
