"""Learning-rate schedules, chosen in the config, as functions of the iteration."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import optax

from lfbm_jax.errors import UserError, did_you_mean

SCHEDULES = ("per_epoch", "constant", "cosine")


def learning_rate(settings: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of one parameter group, as a function of the finished iterations.

    `per_epoch`, the paper's: `learning_rate`, multiplied by `decay_per_epoch` after every epoch.
    `constant`: `learning_rate`. `cosine`: half a cosine from `learning_rate` to 0 at iteration
    `decay_steps`. Each is multiplied by a ramp from 1 / `warmup_steps` to 1 over the first
    `warmup_steps` iterations, which does not shift the rest of the schedule.

    The rate depends only on the settings and the iteration, never on the length of the run, so
    extending a run does not change the rates of the iterations that it had from the start.

    Args:
        settings: a section of `optimizer`.
        steps_per_epoch: iterations per epoch.
    """
    base = settings.learning_rate
    if settings.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(base, settings.decay_steps)
    elif settings.schedule == "per_epoch":
        schedule = functools.partial(_per_epoch, settings, steps_per_epoch)
    else:
        schedule = optax.constant_schedule(base)
    ramp = optax.constant_schedule(1.0)
    if settings.warmup_steps > 1:
        first = 1 / settings.warmup_steps
        ramp = optax.linear_schedule(first, 1.0, settings.warmup_steps - 1)

    def rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, float)  # From an int32, Optax would compute in float32.
        return ramp(step) * schedule(step)

    return rate


def _per_epoch(
    settings: ml_collections.ConfigDict, steps_per_epoch: int, step: jax.Array
) -> jax.Array:
    """The learning rate decayed after every epoch.

    Epochs are counted with whole numbers. Optax's schedule rounds step / steps_per_epoch down, and
    in compiled float32 arithmetic that quotient may be just below a whole number.
    """
    epoch = step.astype(int) // steps_per_epoch
    return settings.learning_rate * settings.decay_per_epoch ** epoch.astype(step.dtype)


def check(section: str, settings: ml_collections.ConfigDict) -> None:
    """Raises a UserError for invalid schedule settings in `optimizer.<section>`."""
    if settings.schedule not in SCHEDULES:
        near = did_you_mean(settings.schedule, list(SCHEDULES))
        raise UserError(f"optimizer.{section}.schedule={settings.schedule!r}: {near}")
    if settings.schedule == "cosine" and settings.decay_steps < 1:
        raise UserError(
            f"optimizer.{section}.decay_steps={settings.decay_steps}: the cosine schedule needs"
            " the iteration at which the rate reaches 0"
        )
    if settings.warmup_steps < 0:
        raise UserError(
            f"optimizer.{section}.warmup_steps={settings.warmup_steps}: must be at least 0"
        )
