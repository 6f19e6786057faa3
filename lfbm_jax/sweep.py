"""Runs every point of a grid of settings, and writes a plot as in Figure 3 and a table.

    python -m lfbm_jax.sweep --config=configs/digits.py --workdir=runs/steps --seeds=3 \\
        --grid='inference.num_steps=10,20,40;inference.step_size=0.05,0.1'

Every run has its own work directory. The same command resumes after an interruption: it skips
finished runs and resumes the others from their checkpoints.
"""

import ast
import itertools
import pathlib
from typing import Any, NamedTuple

import ml_collections
from absl import flags

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.reports import ablation, meanings, overview, page
from lfbm_jax.runs import cli, given, grid, workdir

_GRID = flags.DEFINE_string(
    "grid", "", "'key=value,value;key=value,...'; the first key is the x axis of the plot"
)
_FIGURE = flags.DEFINE_string("figure", "reconstruct.mse", "what to plot: <report>.<figure>")
# allow_override: another command has a flag of this name, and a process may import both.
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "number of seeds per point", lower_bound=1, allow_override=True
)
flags.adopt_module_key_flags(grid)


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        settings: its values of the grid's keys.
        seed: its seed.
        run: the run itself.
    """

    settings: dict[str, Any]
    seed: int
    run: grid.Run


def main(config: ml_collections.ConfigDict) -> None:
    if not _GRID.value:
        raise UserError("--grid is missing: give one, such as --grid='inference.num_steps=10,20'")
    figure, root = _FIGURE.value, given.workdir("runs/sweep")
    ablation.check(figure, config)
    words = meanings.sentence(figure.partition(".")[2])
    points = plan(config, parse_grid(_GRID.value, config), _SEEDS.value, root)

    def write_table_and_plot(done: list[grid.Run]) -> list[pathlib.Path]:
        found = [(point.settings, point.seed, point.run.figures()) for point in points]
        rows = ablation.collect(found, figure)
        table, plot = ablation.write_table(rows, figure, root), ablation.draw(rows, figure, root)
        body = [page.picture(plot, figure), page.table(*ablation.cells(rows, figure))]
        folders = {run.name: run.folder for run in done}
        return [table, plot, overview.write(root, f"Sweep of {figure}", words, body, folders)]

    grid.complete([point.run for point in points], write_table_and_plot)


def parse_grid(text: str, config: ml_collections.ConfigDict) -> dict[str, list[Any]]:
    """Parses 'a.b=1,2;c.d=0.1' to {"a.b": [1, 2], "c.d": [0.1]}; UserError for an unknown key."""
    known = list(workdir.flat(config.to_dict()))
    found = {}
    for part in filter(None, text.split(";")):
        key, _, values = (side.strip() for side in part.partition("="))
        if key not in known:
            raise UserError(f"--grid: no setting {key!r}: {did_you_mean(key, known)}")
        try:
            found[key] = list(ast.literal_eval(f"[{values}]"))
        except (SyntaxError, ValueError):  # words without quotation marks
            found[key] = [value.strip() for value in values.split(",")]
        if not found[key]:
            raise UserError(f"--grid: {key} has no values: write {key}=value,value")
    return found


def plan(
    config: ml_collections.ConfigDict, values: dict[str, list[Any]], seeds: int, root: pathlib.Path
) -> list[Point]:
    """Lists the runs of a sweep, seeds innermost; UserError if a value does not fit its setting."""
    points = []
    for chosen in itertools.product(*values.values()):
        settings = dict(zip(values, chosen, strict=True))
        for seed in range(config.seed, config.seed + seeds):
            own = settings | {"seed": seed}
            resolved = config.copy_and_resolve_references()
            try:
                resolved.update_from_flattened_dict(own)
            except (TypeError, ValueError) as error:
                raise UserError(f"--grid: {error}") from error
            name = "_".join(f"{key}-{value}" for key, value in own.items())
            run = grid.Run(name, resolved, root / name.replace("/", "-"))
            points.append(Point(settings, seed, run))
    return points


if __name__ == "__main__":
    cli.run(main, given.config)
