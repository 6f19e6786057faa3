"""Loads a trained model from its work directory."""

import functools
import os
import pathlib

import jax
import ml_collections

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.model import Model
from lfbm_jax.runs import build
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.runs.workdir import load_config
from lfbm_jax.trained.api import TrainedModel


def load(workdir: str | os.PathLike, step: int | None = None) -> TrainedModel:
    """Loads the trained model of a work directory.

    Args:
        workdir: a work directory made by `lfbm_jax.main` or `lfbm_jax.convert`.
        step: the step of the checkpoint; None for the newest.

    Raises:
        UserError: the work directory or the checkpoint does not exist or cannot be read.
    """
    config = load_config(pathlib.Path(workdir))
    return trained(config, build.model(config), pathlib.Path(workdir), step)


def trained(
    config: ml_collections.ConfigDict,
    model: Model,
    workdir: pathlib.Path,
    step: int | None = None,
) -> TrainedModel:
    """Loads the trained model for a config and a model that the caller has built; see `load`."""
    checkpoints = Checkpoints(workdir, read_only=True)
    template = jax.eval_shape(functools.partial(learning.init_state, config, model))
    state = checkpoints.restore(template, step)
    checkpoints.close()
    if state is None:
        raise UserError(f"--workdir={workdir}: no checkpoint there yet; train first (--mode=train)")
    return TrainedModel(config, model, state.parameters, int(state.step), state.average)
