"""A trained model from its work directory."""

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
    """The trained model of a work directory.

    Args:
        workdir: where `lfbm_jax.main`, or `lfbm_jax.convert`, put it.
        step: of the checkpoint; None for the newest.

    Raises:
        UserError: there is no such work directory or checkpoint, or it cannot be read.
    """
    config = load_config(pathlib.Path(workdir))
    return trained(config, build.model(config), pathlib.Path(workdir), step)


def trained(
    config: ml_collections.ConfigDict,
    model: Model,
    workdir: pathlib.Path,
    step: int | None = None,
) -> TrainedModel:
    """The same for a config and a model that are at hand already."""
    checkpoints = Checkpoints(workdir, read_only=True)
    template = jax.eval_shape(functools.partial(learning.init_state, config, model))
    state = checkpoints.restore(template, step)
    checkpoints.close()
    if state is None:
        raise UserError(f"--workdir={workdir}: no checkpoint there yet; train first (--mode=train)")
    return TrainedModel(config, model, state.parameters, int(state.step), state.average)
