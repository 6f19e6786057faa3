"""The contract of a task; every other module of this folder is one task.

A task's module has `SETTINGS`, its settings with their default values, which the config section
`task.<name>` may change; `SMOKE`, those of a two-step `:smoke` run; `run`, and where it needs them
`check` and `monitor`, whose defaults are here. Its measures live in `lfbm_jax.metrics`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from lfbm_jax.images.cache import Cache
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

Figures = dict[str, float]


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where the task's settings make no sense; called before training."""
    del config


def monitor(trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict) -> Figures:
    """Figures that are cheap enough for training, logged every `train.sample_every` steps."""
    del trained, data, config
    return {}


class Task(NamedTuple):
    """A task's module, as the house calls it.

    Attributes:
        settings, smoke: default settings, and what of them a smoke run changes.
        run: (trained, data, config, writer) -> figures by name; writes its pictures, and describes
            its setting, through the writer.
        check: (config) -> None; raises UserError.
        monitor: (trained, data, config) -> figures by name.
    """

    settings: Mapping[str, Any]
    smoke: Mapping[str, Any]
    run: Callable[[TrainedModel, Cache, ml_collections.ConfigDict, ReportWriter], Figures]
    check: Callable[[ml_collections.ConfigDict], None]
    monitor: Callable[[TrainedModel, Cache, ml_collections.ConfigDict], Figures]


def of_module(names: Mapping[str, Any]) -> Task:
    """The task that a module's names make."""
    return Task(
        names["SETTINGS"],
        names["SMOKE"],
        names["run"],
        names.get("check", check),
        names.get("monitor", monitor),
    )
