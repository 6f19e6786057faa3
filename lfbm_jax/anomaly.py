"""Trains and scores one model per held-out digit and seed, and writes Table 4.

    python -m lfbm_jax.anomaly --config=configs/mnist_anomaly.py --digits=1,4 --seeds=3

Every model is a separate run, in `<workdir>/digit-1/seed-0` and so on. The same command resumes
after an interruption and skips finished runs. The seeds are training seeds: `data.pooled_seed`
splits the images in the same way in every run, so the spread over seeds excludes the spread over
splits.
"""

import pathlib
from collections.abc import Iterator, Sequence

import ml_collections
from absl import flags

from lfbm_jax.errors import UserError
from lfbm_jax.reports import overview, page, paper
from lfbm_jax.runs import cli, given, grid, recorded, tables

_DIGITS = flags.DEFINE_list(
    "digits", list(map(str, paper.TABLE_4_DIGITS)), "the classes to hold out, one at a time"
)
# allow_override: another command has a flag of this name, and a process may import both.
_SEEDS = flags.DEFINE_integer(
    "seeds",
    1,
    "models per digit, with the config's seed and those after it",
    lower_bound=1,
    allow_override=True,
)
flags.adopt_module_key_flags(grid)


def main(config: ml_collections.ConfigDict) -> None:
    if "anomaly" not in config.tasks:
        raise UserError(f"tasks={tuple(config.tasks)}: the task anomaly is missing, add it")
    root = given.workdir("runs/anomaly")

    def write_table(done: list[grid.Run]) -> list[pathlib.Path]:
        folders = {run.name: run.folder for run in done}
        path = tables.write(folders.values(), root / "tables.md")
        print(path.read_text(encoding="utf-8"))
        lead = f"AUPRC by held-out class. {tables.TABLE_4_LEAD}"
        return [path, overview.write(root, "Anomaly detection", lead, _body(done), folders)]

    grid.complete(list(each_run(config, _labels(_DIGITS.value), _SEEDS.value, root)), write_table)


def each_run(
    config: ml_collections.ConfigDict, digits: Sequence[int], seeds: int, root: pathlib.Path
) -> Iterator[grid.Run]:
    """Yields a run for every digit and seed: all digits with the config's seed, then the next."""
    for seed in range(config.seed, config.seed + seeds):
        for digit in digits:
            own = config.copy_and_resolve_references()
            own.seed = seed
            own.data.exclude_labels = (digit,)
            name = f"digit-{digit}/seed-{seed}"
            yield grid.Run(name, own, root / name)


def _body(done: Sequence[grid.Run]) -> Iterator[str]:
    """Yields the elements of the page over all runs."""
    runs = [recorded.read_run(run.folder) for run in done]
    for split, header, cells, doubt in tables.splits_of_table_4(runs):
        yield from (page.heading(split), page.table(header, cells))
        if doubt:
            yield page.paragraph(doubt)


def _labels(digits: Sequence[str]) -> list[int]:
    try:
        return [int(digit) for digit in digits]
    except ValueError:
        raise UserError(f"--digits={','.join(digits)}: use labels such as 1,4,5") from None


if __name__ == "__main__":
    cli.run(main, given.config)
