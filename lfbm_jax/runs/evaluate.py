"""Runs the configured tasks on a trained model and writes the reports."""

import functools
import pathlib

import ml_collections

from lfbm_jax.files import terminal
from lfbm_jax.images.cache import Cache
from lfbm_jax.reports import index, report
from lfbm_jax.runs import build, comparable, fitting
from lfbm_jax.runs.workdir import plain
from lfbm_jax.trained.api import TrainedModel


def check(config: ml_collections.ConfigDict, data: Cache) -> None:
    """Raises a UserError if a task of the config cannot use these images."""
    for name in config.tasks:
        build.task(name).check_data(data, config)


def evaluate(
    trained: TrainedModel, data: Cache, workdir: pathlib.Path
) -> tuple[dict[str, float], list[pathlib.Path]]:
    """Runs every task of the config, and again with averaged parameters if the run has them.

    Returns:
        The figures by names such as "reconstruct/mse" and "reconstruct_averaged/mse", and the paths
        of the reports, the pictures and the index.
    """
    config = trained.config
    papers = functools.partial(comparable.figures, plain(config))
    trained = fitting.fitted(trained, data)
    figures: dict[str, float] = {}
    paths: list[pathlib.Path] = []
    for name in config.tasks:
        task = build.task(name)
        for averaged in (False, True):
            model = trained.averaged if averaged else trained
            if model is None:
                continue
            terminal.note(f"task {name}{', averaged parameters' if averaged else ''} ...")
            writer = report.ReportWriter(workdir, name, model.step, config, averaged, papers)
            found = task.run(model, data, config, writer)
            path = writer.write(found)
            figures |= {f"{path.stem}/{figure}": value for figure, value in found.items()}
            paths += [path, *writer.pictures]
    return figures, [*paths, *index.write(workdir)]
