"""Estimates the memory that a training step takes on a device, from shapes alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax.model import Example, Model
from lfbm_jax.objectives.base import Keys

# JAX takes this share of a GPU's memory by default (XLA_PYTHON_CLIENT_MEM_FRACTION).
SHARE_OF_DEVICE = 0.75
# Examples of the traced batch. Only sizes of arrays that scale with it divide by this large prime.
TRACED = 10_007


def estimate(
    config: ml_collections.ConfigDict, model: Model, batch: int, device_bytes: float
) -> dict[str, int]:
    """Estimates the bytes that a training step takes on one device, and the microbatch that fits.

    These are counted: the training state (parameters, Adam's two moments, the moving average); the
    gradients (their sum and the current ones, with microbatches also the next sum); the parameters
    laid out for the forward and the backward pass; the images of a call; and, for each example of a
    microbatch, the arrays that the backward pass needs from the forward pass, the two largest of
    them twice because of their gradients.

    A chain needs less than that. It is not differentiated, so its number of steps has no effect.
    Not counted are the libraries' scratch space, a data set that is kept on the device, and on a
    CPU a second copy of the kernels and the products that its convolutions make.

    Args:
        config: the whole config.
        model: the model built from the config.
        batch: the number of examples on this device.
        device_bytes: the device's memory, of which JAX takes three quarters.

    Returns:
        The bytes of each part, their "total", and the "largest_microbatch_size" that fits, which is
        0 if none does.
    """
    parameters = jax.eval_shape(model.init, jax.random.key(0))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(parameters))
    pixels = config.data.image_size**2 * config.data.channels
    per_example = _bytes_per_example(config, model, parameters)

    def parts(examples: int) -> dict[str, int]:
        return {
            "state": size * (3 + bool(config.train.ema_decay)),
            "gradients": size * (2 + (examples < batch)),
            "prepared_parameters": size * 2,
            "images": batch * config.train.steps_per_call * pixels,
            "activations": examples * per_example,
        }

    def fits(examples: int) -> bool:
        return sum(parts(examples).values()) <= SHARE_OF_DEVICE * device_bytes

    found = parts(min(config.train.microbatch_size or batch, batch))
    return found | {
        "total": sum(found.values()),
        "largest_microbatch_size": max(filter(fits, range(1, batch + 1)), default=0),
    }


def _bytes_per_example(
    config: ml_collections.ConfigDict, model: Model, parameters: Any
) -> int:
    """Bytes per example that the backward pass of an update needs, the two largest arrays twice."""
    prepared = jax.eval_shape(model.prepare, parameters)
    side, dtype = config.data.image_size, jax.dtypes.canonicalize_dtype(float)
    shaped: Any = jax.ShapeDtypeStruct  # It stands for an array.
    example = Example(
        shaped((TRACED, side, side, config.data.channels), dtype),
        shaped((TRACED,), jnp.int32),
        shaped((TRACED,), dtype),
    )

    def residuals(update, prepared, example):
        def loss(prepared):
            def one(example):
                key = jax.random.key(0)
                return update.loss(model, prepared, Keys(key, key), example).value

            return jnp.sum(jax.vmap(one)(example))

        return jax.vjp(loss, prepared)[1]

    def of_update(update):
        kept = sorted(
            leaf.size // TRACED * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(
                jax.eval_shape(functools.partial(residuals, update), prepared, example)
            )
            if leaf.size % TRACED == 0
        )
        return sum(kept) + sum(kept[-2:])

    return max(map(of_update, model.objective.updates))
