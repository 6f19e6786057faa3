"""Groups runs that are alike into rows of tables, with labels that say how the rows differ."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lfbm_jax.reports import numbers
from lfbm_jax.runs import alike, comparable
from lfbm_jax.runs.recorded import Run

NOT_RUN = "not run"


class Row(NamedTuple):
    """A table row: runs of one method that differ only in the seed and between columns.

    Attributes:
        method: the name of the method.
        label: the method, and how these runs differ from the paper's or from other rows.
        cells: column -> its runs, each with the reports of one step.
    """

    method: str
    label: str
    cells: dict[Any, list[Run]]

    def ours(self, task: str, figure: str, column: Any = None) -> str:
        """Mean, standard deviation and number of runs; only the first run of each seed counts.

        If an FID was not measured as in the paper, its own name follows.
        """
        values: dict[str, dict[int, float]] = {}
        for run in self.cells.get(column, []):
            for name, value in _named(run, task, figure).items():
                values.setdefault(name, {}).setdefault(run.config["seed"], value)
        cells = [
            cell(list(by_seed.values())) + f", {name}" * (name != figure)
            for name, by_seed in sorted(values.items())
        ]
        return "; ".join(cells) or NOT_RUN

    def papers(self, task: str, figure: str, column: Any = None) -> float | None:
        """The paper's figure, or None if it may not be shown beside ours."""
        if any(_named(run, task, figure).keys() - {figure} for run in self.cells[column]):
            return None
        run = self.cells[column][0]
        step = next(iter(run.reports.values()))["step"]
        not_run = {"task": task, "step": step, "figures": {}, "setup": {}}
        return comparable.figures(run.config, run.reports.get(task, not_run)).get(figure)


def group(
    runs: Iterable[Run],
    tasks: Sequence[str],
    column: Callable[[Run], Any] = lambda run: None,
    told_by_column: Sequence[str] = (),
    told_elsewhere: Sequence[str] = (),
) -> list[Row]:
    """Groups runs that are alike (see `runs.alike`) into rows with distinct labels.

    Args:
        runs: the runs on one data set.
        tasks: the tasks whose figures the table shows; runs without their reports are left out.
        column: returns the table column of a run.
        told_by_column: settings that differ between columns.
        told_elsewhere: settings that keep rows apart but are shown elsewhere in the table.

    Returns:
        The rows in the order of their runs, and within a method those nearest to the paper first.
    """
    groups: dict[str, dict[Any, dict[int, list[Run]]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        known = [run.reports[task] for task in tasks if task in run.reports]
        for step in sorted({report["step"] for report in known}):
            reports = {r["task"]: r for r in known if r["step"] == step}
            own = alike.settings(run.config, reports.values())
            own = {key: value for key, value in own.items() if key not in told_by_column}
            key = json.dumps([run.method, *sorted(own.items())])
            settings[key] = own
            steps = groups.setdefault(key, {}).setdefault(column(run), {})
            steps.setdefault(step, []).append(run._replace(reports=reports))
    hidden = {*told_by_column, *told_elsewhere}
    found = []
    for method in _unique(run.method for run in runs):
        keys = [key for key in groups if _first(groups[key]).method == method]
        differences = [_differences(_first(groups[key])) for key in keys]
        labels = _labels([settings[key] for key in keys], differences, hidden)
        for label, key in sorted(zip(labels, keys, strict=True), key=lambda p: (len(p[0]), p[0])):
            found += _rows(method, label, groups[key])
    return found


def cell(values: Sequence[float]) -> str:
    """Formats mean and count, and for several runs also the standard deviation."""
    if not values:
        return NOT_RUN
    mean = numbers.shown(statistics.mean(values))
    if len(values) == 1:
        return f"{mean} (1)"
    return f"{mean} ± {statistics.stdev(values):.2g} ({len(values)})"


def _named(run: Run, task: str, figure: str) -> dict[str, float]:
    """A figure of a run, by name. An FID may have a longer name that says how it was measured."""
    figures = run.reports.get(task, {}).get("figures", {})
    return {
        name: value
        for name, value in figures.items()
        if value is not None
        and (name == figure or (figure == "fid" and name.startswith("fid_")))
    }


def _rows(method: str, label: list[str], columns: dict[Any, dict[int, list[Run]]]) -> list[Row]:
    """One row, or one row per step if a column has runs of several steps."""
    if all(len(steps) == 1 for steps in columns.values()):
        cells = {column: next(iter(steps.values())) for column, steps in columns.items()}
        short = {
            step
            for steps in columns.values()
            for step, runs in steps.items()
            if step and comparable.is_too_short(runs[0].config, step)
        }
        after = [f"after {', '.join(map(str, sorted(short)))} iterations"] if short else []
        return [Row(method, ", ".join([method, *label, *after]), cells)]
    every_step = sorted({step for steps in columns.values() for step in steps})
    return [
        Row(
            method,
            ", ".join([method, *label, f"after {step} iterations"]),
            {column: steps[step] for column, steps in columns.items() if step in steps},
        )
        for step in every_step
    ]


def _labels(
    settings: list[dict[str, Any]], differences: list[dict[str, Any]], hidden: set[str]
) -> list[list[str]]:
    """How every group of one method differs from the paper or from the other groups."""
    of_paper = {key for found in differences for key in found}
    keys = _unique(key for own in settings for key in own)
    varying = {
        key
        for key in keys
        if key not in of_paper and len({json.dumps(own.get(key)) for own in settings}) > 1
    }
    return [
        [
            f"{key}={_shown(own.get(key, '-'))}"
            for key in keys
            if (key in found or key in varying) and key not in hidden
        ]
        for own, found in zip(settings, differences, strict=True)
    ]


def _shown(value: Any) -> str:
    return str(value).replace("|", "/") if value != "" else "''"


def _differences(run: Run) -> dict[str, Any]:
    return comparable.differences(run.config, list(run.reports.values()))


def _first(columns: dict[Any, dict[int, list[Run]]]) -> Run:
    return next(iter(next(iter(columns.values())).values()))[0]


def _unique(items: Iterable[Any]) -> list[Any]:
    """The distinct items, in order of first appearance."""
    return list(dict.fromkeys(items))
