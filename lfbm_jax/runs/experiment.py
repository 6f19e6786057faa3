"""Carries out one run: claims the work directory, trains and evaluates, resuming where it stopped.

The last file that a run writes is `figures.json`, which holds its config and all its figures. A run
is done if and only if this file exists and holds the run's config.
"""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from lfbm_jax.costs.describe import describe
from lfbm_jax.data import prepare
from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.images.cache import Cache
from lfbm_jax.reports import report
from lfbm_jax.runs import (
    build,
    crash,
    evaluate,
    learned_from,
    logs,
    recorded,
    restore,
    train,
    workdir,
)
from lfbm_jax.trained.api import TrainedModel

REPEATS = 5  # calls that are timed
_NETWORKS = ("prior", "generator", "inference")


def run(
    config: ml_collections.ConfigDict, folder: pathlib.Path, profile_calls: int = 0
) -> list[pathlib.Path]:
    """Trains and evaluates a run to its end; returns the paths of reports and their pictures.

    Args:
        config: the whole config, checked.
        folder: the work directory, either new or left by an interrupted run of this config.
        profile_calls: the number of host calls of training to trace.

    Raises:
        UserError: the config describes no model, its data cannot be prepared or do not suit its
            tasks, the folder is the work directory of another config, or another process runs in
            it.
        Interrupted, FloatingPointError: see `train.train`.
    """
    model = build.model(config)
    data = _prepared(config)
    evaluate.check(config, data)
    with distributed.everywhere(lambda: workdir.lock(folder)):
        distributed.everywhere(lambda: workdir.claim(folder, config))
        distributed.everywhere(lambda: learned_from.remember(data.train, folder))
        logs.write_to(folder)
        report.environment()  # of the code that trains, which may be edited meanwhile
        with crash.reported(folder, config):
            trained = train.train(config, model, data, folder, profile_calls)
            found, paths = evaluate.evaluate(trained, data, folder)
            _write(found, config, folder)
    return paths


def claim(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    """Makes the folder the work directory of a config by writing its `config.json`.

    Afterwards `lfbm_jax.main --workdir=FOLDER` is the command of the run. If it already is, the
    folder is left alone, for the run may be in training.

    Raises:
        UserError: the folder is the work directory of another config, cannot be written, or a run
            with other settings is training there.
    """
    written = (folder / "config.json").exists()
    if written and workdir.read_config(folder) == workdir.plain(config):
        return
    with workdir.lock(folder):
        workdir.claim(folder, config)


def figures(
    config: ml_collections.ConfigDict, folder: pathlib.Path
) -> dict[str, float | None] | None:
    """The figures of a run that is done; None if it is not done with exactly this config.

    Returns:
        The figures of all tasks, by names such as "reconstruct/mse" and, for averaged parameters,
        "reconstruct_averaged/mse"; also those of `add_costs`, if it was called.

    Raises:
        UserError: `figures.json` is damaged.
    """
    done = recorded.finished(folder)
    if done is None:
        return None
    own, found = done
    return found if workdir.upgraded(own, folder) == workdir.plain(config) else None


def restored(
    config: ml_collections.ConfigDict, folder: pathlib.Path, step: int | None = None
) -> TrainedModel:
    """Loads the trained model of a work directory that was made with this config.

    The folder's `config.json` stays as it is, so a run that is training there is not changed.

    Args:
        config: may differ from the recorded config only in settings that do not change what a
            training step computes.
        folder: the work directory.
        step: the step of the checkpoint; None for the newest.

    Raises:
        UserError: the folder holds no run, a run of another config, or no such checkpoint.
    """

    def check() -> None:
        if distributed.is_first():
            workdir.check(folder, config)

    distributed.everywhere(check)
    logs.write_to(folder)
    return restore.trained(config, build.model(config), folder, step)


def evaluated(
    config: ml_collections.ConfigDict, folder: pathlib.Path, step: int | None = None
) -> list[pathlib.Path]:
    """Runs the tasks on a checkpoint; returns the paths of reports and their pictures.

    The arguments and errors are those of `restored`.
    """
    report.environment()  # as in `run`
    trained = restored(config, folder, step)
    data = _known(config, folder)
    evaluate.check(config, data)
    with crash.reported(folder, config):
        _, paths = evaluate.evaluate(trained, data, folder)
    return paths


def add_costs(
    config: ml_collections.ConfigDict, folder: pathlib.Path
) -> dict[str, float | None]:
    """Measures the costs of a finished run's model, and adds them to the run's figures.

    The times are meaningful only if nothing else runs on the machine.

    Returns:
        All figures of the run, with `parameters`, `time/milliseconds_to_sample` and
        `time/milliseconds_to_infer` (for a training batch, without compilation), and
        `time/minutes_per_epoch` (None if training logged no rate).

    Raises:
        UserError: the run is not done.
    """

    def of_the_run() -> dict[str, float | None]:
        found = figures(config, folder) if distributed.is_first() else {}
        if found is None:
            raise UserError(f"--workdir={folder}: no finished run of this config; train first")
        return found

    found = distributed.everywhere(of_the_run)
    trained = restored(config, folder)
    batch = config.train.batch_size
    images = _known(config, folder).train.spread(batch)
    networks = describe(config, trained.model)
    with crash.reported(folder, config):
        found |= {
            "parameters": sum(networks[n]["parameters"] for n in _NETWORKS),
            "time/milliseconds_to_sample": _milliseconds(lambda: trained.sample(batch, 0, batch)),
            "time/milliseconds_to_infer": _milliseconds(
                lambda: trained.infer(images, 0, batch, training_settings=True)
            ),
            "time/minutes_per_epoch": recorded.minutes_per_epoch(folder, batch),
        }
        _write(found, config, folder)
    return found


def _prepared(config: ml_collections.ConfigDict) -> Cache:
    return distributed.first_before_others(lambda: prepare(config.data))


def _known(config: ml_collections.ConfigDict, folder: pathlib.Path) -> Cache:
    """The data of a config; UserError if the run in the folder learned from other images."""
    data = _prepared(config)
    distributed.everywhere(lambda: learned_from.check(data.train, folder))
    return data


def _write(
    found: Mapping[str, float | None], config: ml_collections.ConfigDict, folder: pathlib.Path
) -> None:
    """Writes `figures.json`, which appears complete or not at all."""
    content = {"config": workdir.plain(config), "figures": found}
    atomic.write_text(folder / recorded.FIGURES, json.dumps(content, default=float) + "\n")


def _milliseconds(call: Callable[[], Any]) -> float:
    """The median time of calls after the first."""
    call()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)
