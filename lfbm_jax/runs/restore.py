"""Restores a trained model from the checkpoints of its work directory."""

import functools
import pathlib

import jax
import ml_collections

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.model import Model
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.trained.api import TrainedModel


def trained(
    config: ml_collections.ConfigDict,
    model: Model,
    workdir: pathlib.Path,
    step: int | None = None,
) -> TrainedModel:
    """Restores the trained model for a config and a model that the caller has built.

    Args:
        config: the config of the work directory.
        model: the model of the config.
        workdir: the work directory.
        step: the step of the checkpoint; None for the newest.

    Raises:
        UserError: the checkpoint does not exist or cannot be read.
    """
    checkpoints = Checkpoints(workdir, read_only=True)
    template = jax.eval_shape(functools.partial(learning.init_state, config, model))
    state = checkpoints.restore(template, step)
    checkpoints.close()
    if state is None:
        raise UserError(f"--workdir={workdir}: no checkpoint there yet; train first (--mode=train)")
    return TrainedModel(config, model, state.parameters, int(state.step), state.average)
