"""Fits a density to latent vectors that are drawn anew in every epoch, for priors fitted later."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lfbm_jax.files import terminal

Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]


def fit_by_adam(
    loss: Loss,
    parameters: Any,
    draw: Callable[[int], np.ndarray],
    *,
    num_epochs: int,
    batch_size: int,
    learning_rate: float,
    key: jax.Array,
    seed: int,
    name: str,
) -> Any:
    """The parameters after some epochs of Adam on the mean loss.

    Args:
        loss: (parameters, key, z [d]) -> the loss of one latent vector, [].
        parameters: where to start, a tree of arrays.
        draw: epoch -> z [N, d].
        num_epochs, batch_size, learning_rate: how long and how fast; the last, incomplete batch
            of an epoch is left out, so that every step has the same shape.
        key: the random key of the losses' own draws.
        seed: of the order of the vectors.
        name: what is fitted, for the bar.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    adam = optax.adam(learning_rate)
    moments = adam.init(parameters)
    dtype = jax.tree.leaves(parameters)[0].dtype

    def mean_loss(parameters, key, z):
        keys = jax.random.split(key, len(z))
        return jnp.mean(jax.vmap(loss, (None, 0, 0))(parameters, keys, z))

    def step(carry, inputs):
        parameters, moments = carry
        value, gradients = jax.value_and_grad(mean_loss)(parameters, *inputs)
        updates, moments = adam.update(gradients, moments)
        return (optax.apply_updates(parameters, updates), moments), value

    @jax.jit
    def epoch(parameters, moments, keys, batches):
        return jax.lax.scan(step, (parameters, moments), (keys, batches))

    random = np.random.default_rng(seed)
    for number in terminal.bar(range(num_epochs), desc=name, unit="epoch", delay=3):
        z = random.permutation(draw(number)).astype(dtype)
        size = min(batch_size, len(z))
        batches = z[: len(z) // size * size].reshape(-1, size, z.shape[1])
        keys = jax.random.split(jax.random.fold_in(key, number), len(batches))
        (parameters, moments), losses = epoch(parameters, moments, keys, batches)
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"the loss of the {name} is not finite in epoch {number}: lower prior.learning_rate"
            )
    return parameters
