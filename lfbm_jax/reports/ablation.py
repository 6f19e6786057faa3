"""Shows the result of a sweep: one figure from the reports of its runs, as a table and a plot."""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.figure
import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.reports import numbers


class Row(NamedTuple):
    """The runs of one point of the grid, one for each seed.

    Attributes:
        settings: grid key -> its value at this point.
        values: seed -> the figure, NaN if the run did not finish.
    """

    settings: dict[str, Any]
    values: dict[int, float]

    @property
    def known(self) -> list[float]:
        return [value for value in self.values.values() if not np.isnan(value)]

    @property
    def mean(self) -> float:
        return float(np.mean(self.known)) if self.known else float("nan")

    @property
    def stddev(self) -> float:
        """The unbiased standard deviation over seeds; NaN for a single seed."""
        return float(np.std(self.known, ddof=1)) if len(self.known) > 1 else float("nan")


def check(figure: str, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if no task of the config reports the figure `<report>.<figure>`."""
    report, _, name = figure.partition(".")
    if not name or report.removesuffix("_averaged") not in config.tasks:
        raise UserError(
            f"--figure={figure}: write <report>.<figure> for one of the tasks"
            f" {', '.join(config.tasks)}, or add its task to --config.tasks"
        )
    if report.endswith("_averaged") and not config.train.ema_decay:
        raise UserError(f"--figure={figure}: nothing is averaged, since train.ema_decay is 0")


def collect(
    runs: Sequence[tuple[dict[str, Any], int, Mapping[str, Any] | None]], figure: str
) -> list[Row]:
    """Returns one row for each point of the grid.

    Args:
        runs: the settings, seed and figures of each run, the figures by names such as
            "reconstruct/mse". They are None if the run did not finish.
        figure: `<report>.<figure>`.

    Raises:
        UserError: a finished run lacks the figure.
    """
    report, _, name = figure.partition(".")
    rows: list[Row] = []
    for settings, seed, figures in runs:
        if not rows or rows[-1].settings != settings:
            rows.append(Row(settings, {}))
        value = float("nan")
        if figures is not None:
            key = f"{report}/{name}"
            if key not in figures:
                known = (other.replace("/", ".", 1) for other in figures)
                raise UserError(f"--figure={figure}: the runs have only {', '.join(known)}")
            value = figures[key]
        rows[-1].values[seed] = value
    return rows


def write_table(rows: list[Row], figure: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes `<figure>.csv`: settings, mean and standard deviation over seeds, and each seed."""
    path = folder / f"{figure}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_header(rows, figure))
        for row in rows:
            writer.writerow([*row.settings.values(), row.mean, row.stddev, *row.values.values()])
    return path


def cells(rows: list[Row], figure: str) -> tuple[list[str], list[list[str]]]:
    """The same table for readers: its header and its cells."""
    found = [
        [
            *map(str, row.settings.values()),
            *map(numbers.shown, (row.mean, row.stddev, *row.values.values())),
        ]
        for row in rows
    ]
    return _header(rows, figure), found


def _header(rows: list[Row], figure: str) -> list[str]:
    seeds = [f"seed {seed}" for seed in rows[0].values]
    return [*rows[0].settings, f"mean {figure}", "standard deviation", *seeds]


def draw(rows: list[Row], figure: str, folder: pathlib.Path) -> pathlib.Path:
    """Draws `<figure>.png` in the style of a panel of Figure 3.

    The first key is on the x axis, and the others distinguish the curves. The bars show one
    standard deviation over seeds.
    """
    x_key, *others = rows[0].settings
    curves: dict[str, list[Row]] = {}
    for row in rows:
        label = ", ".join(f"{key.rpartition('.')[2]} {row.settings[key]}" for key in others)
        curves.setdefault(label, []).append(row)
    picture = matplotlib.figure.Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = picture.subplots()
    values = [row.settings[x_key] for row in rows]
    numbers = all(isinstance(value, int | float) for value in values)
    for label, curve in curves.items():
        x = [row.settings[x_key] if numbers else str(row.settings[x_key]) for row in curve]
        mean, stddev = ([getattr(row, name) for row in curve] for name in ("mean", "stddev"))
        axes.errorbar(x, mean, stddev, marker="o", capsize=3, label=label)
    if numbers:
        axes.set_xticks(sorted(set(values)))
    axes.set_xlabel(x_key)
    axes.set_ylabel(figure)
    axes.grid(alpha=0.3)
    if others:
        axes.legend()
    if len(rows[0].values) > 1:
        axes.set_title(f"mean and standard deviation of {len(rows[0].values)} seeds", fontsize=10)
    path = folder / f"{figure}.png"
    picture.savefig(path)
    return path
