"""The exponential moving average of the parameters."""

import functools
import math

import jax
import jax.numpy as jnp

from lfbm_jax.learning.state import TrainState
from lfbm_jax.model import Parameters


def updated(decay: float, state: TrainState) -> Parameters:
    """The moving average with the parameters after `state.step` iterations taken in.

    Parameters of i iterations ago count decay^i, divided by the sum of these weights, so that what
    training began with has no part in it.
    """
    rate = (1 - decay) / -jnp.expm1(state.step * math.log(decay))
    mix = functools.partial(_mix, rate)
    return jax.tree.map(mix, state.average, state.parameters)


def _mix(rate: jax.Array, average: jax.Array, value: jax.Array) -> jax.Array:
    return (average + rate * (value - average)).astype(value.dtype)
