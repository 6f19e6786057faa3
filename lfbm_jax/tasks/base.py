"""The contract of a task; every other module in this folder is one task.

A task's module has `SETTINGS`, the default values of its settings, which the config section
`task.<name>` may change; `SMOKE`, the settings of a two-step `:smoke` run; and `run`. It may also
have `check`, `check_data` and `monitor`, whose defaults are here, and `NEEDS_POTENTIAL`, which is
False by default. Its measures are in `lfbm_jax.metrics`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from lfbm_jax.images.cache import Cache
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

Figures = dict[str, float]


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the task's settings are invalid. Called before training."""
    del config


def check_data(data: Cache, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the task cannot use these images. Called before training."""
    del data, config


def monitor(trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict) -> Figures:
    """Returns figures that are cheap enough to log every `train.sample_every` steps of training."""
    del trained, data, config
    return {}


class Task(NamedTuple):
    """A task, with the functions and settings of its module.

    Attributes:
        settings: the default settings.
        smoke: the settings that a smoke run changes.
        run: (trained, data, config, writer) -> figures by name. It gives the writer pictures and a
            description of its setting.
        check: (config) -> None; raises a UserError if settings are invalid.
        check_data: (data, config) -> None; raises a UserError if the images do not suit it.
        monitor: (trained, data, config) -> figures by name.
        needs_potential: whether it needs a prior whose gradient in z is the slope of its log p(z)
            (`Prior.has_potential`).
    """

    settings: Mapping[str, Any]
    smoke: Mapping[str, Any]
    run: Callable[[TrainedModel, Cache, ml_collections.ConfigDict, ReportWriter], Figures]
    check: Callable[[ml_collections.ConfigDict], None]
    check_data: Callable[[Cache, ml_collections.ConfigDict], None]
    monitor: Callable[[TrainedModel, Cache, ml_collections.ConfigDict], Figures]
    needs_potential: bool = False


def of_module(names: Mapping[str, Any]) -> Task:
    """Makes a task from the names that its module defines."""
    return Task(
        names["SETTINGS"],
        names["SMOKE"],
        names["run"],
        names.get("check", check),
        names.get("check_data", check_data),
        names.get("monitor", monitor),
        names.get("NEEDS_POTENTIAL", False),
    )
