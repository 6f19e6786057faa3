"""Writes reports: one JSON file per task, with its setting."""

import functools
import json
import math
import pathlib
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import ml_collections
import numpy as np

from lfbm_jax.files import atomic
from lfbm_jax.images import selection
from lfbm_jax.reports import plots

FREE_SECTIONS = ("eval_inference", "masked_inference", "metrics")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "orbax-checkpoint", "numpy")


class ReportWriter:
    """Collects the results of one task and writes `reports/<task>.json`.

    Args:
        workdir: the work directory.
        task: the name of the task.
        step: the number of training iterations of the model.
        config: the config of the run.
        averaged: whether the model has the moving average of the parameters. If so, the files are
            named `<task>_averaged`.
        papers: a function: report -> the paper's figures that may be shown beside it.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        task: str,
        step: int,
        config: ml_collections.ConfigDict,
        averaged: bool = False,
        papers: Callable[[dict[str, Any]], dict[str, float]] = lambda report: {},
    ):
        self._folder = workdir / "reports"
        self._task = task + ("_averaged" if averaged else "")
        self._step = step
        self._papers = papers
        self._setup: dict[str, Any] = {"data": config.data.name, "seed": config.seed}
        self._setup |= selection.setting(config.data)
        # What a later command on the same work directory may set otherwise, see `runs.alike`.
        self._measured_with = {name: config[name].to_dict() for name in FREE_SECTIONS}
        own = config.task.get(task)
        self._measured_with["task"] = {task: own.to_dict()} if own else {}
        # As it comes back from a file: `papers` compares it with a config that does.
        self._measured_with = json.loads(json.dumps(self._measured_with))
        if averaged:
            self._setup["parameters"] = f"moving average, decay {config.train.ema_decay}"
        self.pictures: list[pathlib.Path] = []

    def describe(self, **setting: Any) -> None:
        """Adds entries to the report's setup: split, range, settings, and so on."""
        self._setup |= setting

    def picture(self, name: str, picture: np.ndarray) -> None:
        """Saves a uint8 picture [H, W, 3] as `reports/<task>_<name>.png`."""
        path = plots.save(picture, self._folder / f"{self._task}_{name}.png")
        self.pictures.append(path)

    def write(self, figures: dict[str, float]) -> pathlib.Path:
        """Writes the report. Raises FloatingPointError if a figure is not finite."""
        for name, value in figures.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"task {self._task}: {name} is {value}, so no report")
        report = {
            "task": self._task,
            "step": self._step,
            "figures": figures,
            "setup": self._setup
            | {"pictures": [picture.name for picture in self.pictures]}
            | environment(),
            "measured_with": self._measured_with,
        }
        report["paper"] = self._papers(report) or None
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._task}.json"
        atomic.write_text(path, json.dumps(report, indent=2, default=str) + "\n")
        return path


@functools.cache
def environment() -> dict[str, Any]:
    """Versions, commit and device, which are needed to reproduce a figure.

    They are those of the first call, because the files may change while a model trains.
    """
    devices = jax.devices()
    return {
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit of the source tree, with "-dirty" if files differ; "unknown" outside git.

    An installed copy may lie in another project's tree, whose commit says nothing about it.
    """
    try:
        _git("ls-files", "--error-unmatch", __file__)
        return _git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    folder = pathlib.Path(__file__).parent
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
