"""The exponential moving average of the parameters."""

import functools
import math

import jax
import jax.numpy as jnp

from lfbm_jax.learning.state import TrainState
from lfbm_jax.model import Parameters


def updated(decay: float, state: TrainState) -> Parameters:
    """The moving average, updated with the parameters after `state.step` iterations.

    The parameters of i iterations ago have weight decay^i, divided by the sum of these weights. The
    initial parameters have no weight.
    """
    rate = (1 - decay) / -jnp.expm1(state.step * math.log(decay))
    mix = functools.partial(_mix, rate)
    return jax.tree.map(mix, state.average, state.parameters)


def _mix(rate: jax.Array, average: jax.Array, value: jax.Array) -> jax.Array:
    return (average + rate * (value - average)).astype(value.dtype)
