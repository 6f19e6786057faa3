"""Reads configs, reports, times and network sizes of runs from their work directories."""

import json
import math
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from lfbm_jax.costs.describe import describe
from lfbm_jax.errors import UserError
from lfbm_jax.files.lines import whole_lines
from lfbm_jax.runs import build, comparable
from lfbm_jax.runs.paper_settings import EXPERIMENTS
from lfbm_jax.runs.workdir import load_config, read_config

FIGURES = "figures.json"  # file of a finished run with its config and all its figures


class Run(NamedTuple):
    """A work directory with its config and its reports.

    Attributes:
        folder: the work directory.
        config: the config as nested dictionaries.
        reports: the reports, by file name without suffix, such as "reconstruct_averaged".
    """

    folder: pathlib.Path
    config: dict[str, Any]
    reports: dict[str, dict[str, Any]]

    @property
    def method(self) -> str:
        return comparable.method(self.config)

    @property
    def data(self) -> str:
        return comparable.data_set(self.config)


def find_runs(folders: Iterable[pathlib.Path]) -> tuple[list[Run], list[str]]:
    """Finds runs: each folder is a work directory, or holds some at any depth.

    Returns:
        The runs, each once, and one line per run below a folder that could not be read.

    Raises:
        UserError: a folder holds no run, or is itself a run that cannot be read.
    """
    runs: dict[pathlib.Path, Run] = {}
    left_out = []
    for folder in folders:
        if (folder / "config.json").exists():
            runs.setdefault(folder.resolve(), read_run(folder))
            continue
        found = [path.parent for path in sorted(folder.glob("**/config.json"))]
        if not found:
            raise UserError(f"{folder}: no run there (no config.json in it or below it)")
        for inner in found:
            try:
                runs.setdefault(inner.resolve(), read_run(inner))
            except UserError as error:
                left_out.append(f"{inner}: {error}")
    return list(runs.values()), left_out


def read_run(folder: pathlib.Path) -> Run:
    """Reads the run in a work directory; UserError if its config or a report cannot be read."""
    reports = {}
    for path in sorted((folder / "reports").glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): run --mode=evaluate again") from error
        if not (isinstance(report, dict) and {"task", "step", "figures", "setup"} <= report.keys()):
            raise UserError(f"{path} is not a report of this package: move it away")
        reports[path.stem] = report
    return Run(folder, read_config(folder), reports)


def finished(folder: pathlib.Path) -> tuple[dict[str, Any], dict[str, float | None]] | None:
    """The config and the figures that a finished run wrote; None if it has not finished.

    Raises:
        UserError: `figures.json` is damaged.
    """
    path = folder / FIGURES
    try:
        done = json.loads(path.read_text(encoding="utf-8"))
        return dict(done["config"]), dict(done["figures"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error!r}): move it away and run again") from error


def minutes_per_epoch(folder: pathlib.Path, batch_size: int) -> float | None:
    """Minutes per epoch of training, from the median of the logged rates; None if none was logged.

    The last batch of an epoch counts as much as the others even if it is smaller.
    """
    rates, steps_per_epoch = [], 0.0
    for line in map(json.loads, filter(str.strip, whole_lines(folder / "metrics.jsonl"))):
        if line.get("time/images_per_second"):
            rates.append(line["time/images_per_second"])
            steps_per_epoch = line["step"] / line["epoch"]
    return steps_per_epoch * batch_size / statistics.median(rates) / 60 if rates else None


def with_times(run: Run) -> Run:
    """Replaces a run's reports by one of its times, or by none if no time was recorded.

    The milliseconds come from the report of samples, else from `--mode=costs`. If neither training
    nor these recorded a time, both times come from `lfbm_jax.benchmark`, for an epoch of the
    paper's images.
    """
    batch = run.config["train"]["batch_size"]
    report = run.reports.get("generate", {})
    settings = report.get("measured_with", {}).get("task", run.config["task"])
    synthesised = settings["generate"]["batch_size"]
    milliseconds = report.get("figures", {}).get("time/milliseconds_per_batch")
    if milliseconds is None and (done := finished(run.folder)):
        milliseconds = done[1].get("time/milliseconds_to_sample")
        synthesised = batch
    minutes = minutes_per_epoch(run.folder, batch)
    timed = [report] if report else run.reports.values()
    device = next((r["setup"].get("device", "-") for r in timed), "-")
    if minutes is None and milliseconds is None and "benchmark" in run.reports:
        figures = run.reports["benchmark"]["figures"]
        milliseconds, synthesised = figures.get("synthesis_milliseconds"), batch
        device += ", random images"
        if run.data in EXPERIMENTS:
            steps_per_epoch = math.ceil(EXPERIMENTS[run.data].num_train / batch)
            minutes = steps_per_epoch * figures["seconds_per_step"] / 60
    if minutes is None and milliseconds is None:
        return run._replace(reports={})
    times = {
        "task": "time",
        "step": 0,  # Times do not depend on the step.
        "figures": {"minutes": minutes, "milliseconds": milliseconds},
        "setup": {"timed_on": [device, batch, synthesised]},
    }
    return run._replace(reports={"time": times})


def sizes(run: Run) -> list[str]:
    """Parameter counts of prior, inference network and generator, also as the paper counts."""
    try:
        config = load_config(run.folder)
        networks = describe(config, build.model(config))
    except UserError:  # a config of an earlier version
        return ["-"] * 3
    found = []
    for name in ("prior", "inference", "generator"):
        count = networks[name]["parameters"]
        with_unused = networks[name].get("parameters_with_unused_biases")
        note = f" ({with_unused:,} with biases that have no effect)" if with_unused else ""
        found.append(f"{count:,}{note}" if count else "-")
    return found
