"""Trains a model for those who do not use a shell."""

import os
import pathlib

import jax
import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.layers import precision
from lfbm_jax.runs import cli, config_files, configuration, experiment
from lfbm_jax.runs.load import load
from lfbm_jax.trained.api import TrainedModel


def train(config: str | ml_collections.ConfigDict, workdir: str | os.PathLike) -> TrainedModel:
    """Trains a model, runs the tasks of its config, and returns it.

    Does what `lfbm-train --config=CONFIG --workdir=WORKDIR` does: the same call resumes an
    interrupted run, and SIGINT (a notebook's stop button) saves a checkpoint first. Must be called
    in the main thread. If `config.deterministic` is true, call it before anything else uses JAX.

    Args:
        config: the name of an experiment or the path of its file, with variants, such as
            "digits:smoke"; or a config from `lfbm_jax.get_config`, with values changed.
        workdir: the work directory, new or left by a run of this config.

    Returns:
        The model of the newest checkpoint, as `lfbm_jax.load` returns it.

    Raises:
        UserError: the config is invalid, its data cannot be prepared, or the work directory is that
            of another config.
        Interrupted: a signal stopped training; call again to continue.
        FloatingPointError: training produced a value that is not finite; earlier checkpoints stay.
    """
    if isinstance(config, str):
        config = config_files.get_config(config)
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"config of type {type(config).__name__}: give a name such as 'digits:smoke', or a"
            " config from lfbm_jax.get_config"
        )
    configuration.check(config)
    cli.set_determinism(config)
    folder = pathlib.Path(workdir)
    # As on the command line, but without a change to the settings of the caller's process.
    with jax.default_matmul_precision(precision.PRECISIONS["float32"]):
        experiment.run(config, folder)
        return load(folder)
