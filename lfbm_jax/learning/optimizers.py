"""Adam for each group of parameters, with learning rates that depend on the iteration."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import optax

from lfbm_jax.learning import schedules
from lfbm_jax.model import GROUPS, Parameters, Tree


def init(config: ml_collections.ConfigDict, parameters: Parameters) -> Parameters:
    """The state of every group's optimizer before its first step."""
    states = {
        name: _optimizer(_settings(config, name), rate=0.0).init(group)
        for name, group in parameters.groups().items()
    }
    return Parameters.of_groups(states)


def step(
    config: ml_collections.ConfigDict,
    steps_per_epoch: int,
    iteration: jax.Array,
    gradients: Mapping[str, Tree],
    parameters: Parameters,
    opt_state: Parameters,
) -> tuple[Parameters, Parameters, dict[str, jax.Array]]:
    """Takes one step of Adam on the groups in `gradients`.

    Args:
        config: the whole config.
        steps_per_epoch: iterations per epoch, for the schedules.
        iteration: finished iterations, which determine the learning rates.
        gradients: the gradients of the groups that take a step, by name.
        parameters, opt_state: the parameters and optimizer states of all groups.

    Returns:
        The new parameters and optimizer states, with other groups unchanged, and metrics: the
        gradient norm and the learning rate of every group that took a step.
    """
    groups, states, metrics = parameters.groups(), opt_state.groups(), {}
    for name, gradient in gradients.items():
        settings = _settings(config, name)
        rate = jnp.asarray(schedules.learning_rate(settings, steps_per_epoch)(iteration))
        optimizer = _optimizer(settings, rate)
        change, states[name] = optimizer.update(gradient, states[name], groups[name])
        groups[name] = optax.apply_updates(groups[name], change)
        if jax.tree.leaves(gradient):
            metrics[f"grad_norm_{name}"] = optax.tree.norm(gradient)
            metrics[f"learning_rate_{name}"] = rate
    return Parameters.of_groups(groups), Parameters.of_groups(states), metrics


def _settings(config: ml_collections.ConfigDict, group: str) -> ml_collections.ConfigDict:
    """The section of `optimizer` for a group; the objective's networks share one section."""
    return config.optimizer[group if group in GROUPS else "objective"]


def _optimizer(
    settings: ml_collections.ConfigDict, rate: jax.Array | float
) -> optax.GradientTransformation:
    """Adam with a fixed learning rate.

    The rate depends on the iteration, and one iteration can take several steps (Table 10). Optax's
    schedules would count steps, so the rate is an argument and the state holds Adam's moments only.
    """
    clip = optax.clip_by_global_norm(settings.clip_norm) if settings.clip_norm else optax.identity()
    return optax.named_chain(
        ("clip", clip),
        ("adam", optax.scale_by_adam(settings.b1, settings.b2)),
        ("rate", optax.scale_by_learning_rate(rate)),
    )
