"""Table 4: one model for every held-out digit and seed, trained and scored, and their table.

    python -m lfbm_jax.anomaly --config=configs/mnist_anomaly.py --digits=1,4 --seeds=3

Every model is a run of its own in `<workdir>/digit-1/seed-0`, ...; the same command goes on where
it was interrupted. A run that has its report is not run again. Seeds are those of training: the
permutation that splits the images is that of `data.pooled_seed` in every run, so that the spread
over seeds does not include the split's.
"""

import pathlib
from collections.abc import Iterator, Sequence

import ml_collections
from absl import flags
from ml_collections import config_flags

from lfbm_jax import tables
from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.reports import paper
from lfbm_jax.runs import build, cli, configuration, evaluate, train, workdir


def main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    config = given.config
    configuration.check(config)
    if "anomaly" not in config.tasks:
        raise UserError(f"tasks={tuple(config.tasks)}: the task anomaly is missing, add it")
    cli.set_precision()
    cli.keep_compiled_programs()
    root = pathlib.Path(given.workdir)
    runs = list(each_run(config, _labels(given.digits), given.seeds, root))
    run_all(runs)
    table = tables.write([folder for folder, _ in runs], root / "tables.md")
    print(f"{table.read_text(encoding='utf-8')}\ndone; look at\n  {table}", flush=True)


def run_all(runs: Sequence[tuple[pathlib.Path, ml_collections.ConfigDict]]) -> None:
    """Trains and evaluates the runs that have no report yet.

    Raises:
        UserError: before any training, where a run's data cannot be had or lacks its label.
    """
    for _, config in runs:
        prepare(config.data)
    for number, (folder, config) in enumerate(runs, start=1):
        built = build.model(config)
        workdir.claim(folder, config)
        done = (folder / "reports" / "anomaly.json").exists()
        print(f"run {number} of {len(runs)}: {folder}{', done before' * done}", flush=True)
        if not done:
            data = prepare(config.data)  # Each held-out class has splits of its own.
            evaluate.evaluate(train.train(config, built, data, folder), data, folder)


def each_run(
    config: ml_collections.ConfigDict, digits: Sequence[int], seeds: int, root: pathlib.Path
) -> Iterator[tuple[pathlib.Path, ml_collections.ConfigDict]]:
    """The work directory and the config of every run, seed by seed: all digits have one first."""
    for seed in range(seeds):
        for digit in digits:
            run = config.copy_and_resolve_references()
            run.seed = seed
            run.data.exclude_labels = (digit,)
            yield root / f"digit-{digit}" / f"seed-{seed}", run


def _labels(digits: Sequence[str]) -> list[int]:
    try:
        return [int(digit) for digit in digits]
    except ValueError:
        raise UserError(f"--digits={','.join(digits)}: use labels such as 1,4,5") from None


if __name__ == "__main__":
    # Not at the top: a process that imports several commands could not define --config twice.
    flags.DEFINE_list(
        "digits", list(map(str, paper.TABLE_4_DIGITS)), "the classes held out, one at a time"
    )
    flags.DEFINE_integer("seeds", 1, "models a digit: seeds 0, 1, ...", lower_bound=1)
    flags.DEFINE_string("workdir", "runs/anomaly", "where the runs live")
    cli.run(
        main,
        config_flags.DEFINE_config_file("config", None, "such as configs/mnist_anomaly.py"),
    )
