"""Runs the configured tasks on a trained model and writes the reports."""

import functools
import pathlib

import jax
import ml_collections

from lfbm_jax import learning, parts, report
from lfbm_jax.api import TrainedModel
from lfbm_jax.checkpoints import Checkpoints
from lfbm_jax.data.cache import Cache
from lfbm_jax.errors import UserError
from lfbm_jax.model import Model


def restore(
    config: ml_collections.ConfigDict,
    model: Model,
    workdir: pathlib.Path,
    step: int | None = None,
) -> TrainedModel:
    """The model of a checkpoint, the newest unless a step is given; UserError if there is none."""
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir={workdir}: no checkpoints there; train first (--mode=train)")
    checkpoints = Checkpoints(workdir)
    template = jax.eval_shape(functools.partial(learning.init_state, config, model))
    state = checkpoints.restore(template, step)
    checkpoints.close()
    if state is None:
        raise UserError(f"--workdir={workdir}: no checkpoint there yet; train first (--mode=train)")
    return TrainedModel(config, model, state.parameters, int(state.step), state.average)


def evaluate(trained: TrainedModel, data: Cache, workdir: pathlib.Path) -> list[pathlib.Path]:
    """Runs every task of the config; returns the paths of what a person would look at.

    Where the parameters' moving average is kept, every task runs a second time, with that.
    """
    config = trained.config
    paths = []
    for name in config.tasks:
        task = parts.find("tasks", name, "tasks")
        for averaged in (False, True):
            model = trained.averaged if averaged else trained
            if model is None:
                continue
            print(f"task {name}{', averaged parameters' if averaged else ''} ...", flush=True)
            writer = report.ReportWriter(workdir, name, model.step, config, averaged)
            paths.append(writer.write(task.run(model, data, config, writer)))
            paths += writer.pictures
    return [*paths, *report.write_index(workdir)]
