"""Adam for each group of parameters, with learning rates that follow the iteration."""

import functools
from typing import Any

import jax
import ml_collections
import optax

from lfbm_jax.learning import schedules
from lfbm_jax.model import Parameters

# Config section of optimizer settings for each group of parameters.
SECTIONS = Parameters(alpha="prior", beta="generator", phi="inference")


def of(config: ml_collections.ConfigDict) -> Parameters:
    """Adam without its learning rate, which follows the iteration, not the update."""
    return Parameters(
        *(
            optax.scale_by_adam(config.optimizer[section].b1, config.optimizer[section].b2)
            for section in SECTIONS
        )
    )


def apply(
    config: ml_collections.ConfigDict,
    steps_per_epoch: int,
    step: jax.Array,
    gradients: Parameters,
    parameters: Parameters,
    moments: Parameters,
) -> tuple[Parameters, Parameters]:
    """One step of Adam on every group: the new parameters and moments.

    Args:
        config: the whole config.
        steps_per_epoch: iterations per epoch, for the schedules.
        step: finished iterations, which the learning rates follow.
        gradients, parameters, moments: of the groups.
    """
    updated = []
    groups = zip(SECTIONS, of(config), gradients, parameters, moments, strict=True)
    for section, optimizer, gradient, values, memory in groups:
        settings = config.optimizer[section]
        rate = schedules.learning_rate(settings, steps_per_epoch)(step)
        if settings.clip_norm:
            gradient = _clip(gradient, settings.clip_norm)
        direction, memory = optimizer.update(gradient, memory)
        updated.append(
            (jax.tree.map(functools.partial(_descend, rate), values, direction), memory)
        )
    new_parameters, new_moments = zip(*updated, strict=True)
    return Parameters(*new_parameters), Parameters(*new_moments)


def _clip(gradient: Any, norm: float) -> Any:
    """The gradient of one group of parameters, scaled down where it is longer than `norm`."""
    clip = optax.clip_by_global_norm(norm)
    return clip.update(gradient, clip.init(gradient))[0]


def _descend(rate: jax.Array, value: jax.Array, direction: jax.Array) -> jax.Array:
    return (value - rate * direction).astype(value.dtype)
