"""Interpolates between two latent vectors."""

import jax
import jax.numpy as jnp

from lfbm_jax.layers import precision

SMALLEST_ANGLE = 1e-3  # In radians. Directions closer than this are treated as parallel.


@precision.full
def between(start: jax.Array, end: jax.Array, fraction: jax.Array) -> jax.Array:
    """The vector [d] at a fraction of the path that `TrainedModel.interpolate` describes."""
    norms = jnp.linalg.norm(start), jnp.linalg.norm(end)
    directions = start / norms[0], end / norms[1]
    angle = jnp.arccos(jnp.clip(jnp.dot(*directions), -1, 1))
    # For almost parallel vectors, sin(a t) / sin(a) tends to t.
    parallel = angle < SMALLEST_ANGLE
    sine = jnp.sin(jnp.where(parallel, 1, angle))
    weights = (
        jnp.where(parallel, part, jnp.sin(part * angle) / sine) for part in (1 - fraction, fraction)
    )
    direction = sum(weight * unit for weight, unit in zip(weights, directions, strict=True))
    return ((1 - fraction) * norms[0] + fraction * norms[1]) * direction
