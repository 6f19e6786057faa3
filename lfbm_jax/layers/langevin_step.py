"""One step of Langevin dynamics, Eq. 8, written once for the posterior and for the energy prior."""

import jax


def drift(z: jax.Array, gradient: jax.Array, step_size: jax.Array | float) -> jax.Array:
    """The mean of the next z, z + (s^2 / 2) gradient: one step of gradient ascent.

    Args:
        z: where the chain is, [d].
        gradient: of the log-density there, [d].
        step_size: s, in units of z; the xi of Eq. 8 is s^2 / 2.
    """
    return z + 0.5 * step_size**2 * gradient


def step(
    z: jax.Array, gradient: jax.Array, step_size: jax.Array | float, noise: jax.Array
) -> jax.Array:
    """The next z, [d]: `drift`, then s times standard normal noise [d], Eq. 8."""
    return drift(z, gradient, step_size) + step_size * noise
