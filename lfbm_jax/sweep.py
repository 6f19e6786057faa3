"""Ablations as in Figure 3: a run for every point of a grid of settings, one plot and one table.

    python -m lfbm_jax.sweep --config=configs/digits.py --workdir=runs/steps --seeds=3 \\
        --grid='inference.num_steps=10,20,40;inference.step_size=0.05,0.1'

Every run is `lfbm_jax.main` in a process and a work directory of its own, so a sweep that was
stopped goes on where it was: finished runs are left alone, others resume from their checkpoints.
"""

import ast
import copy
import itertools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.reports import ablation
from lfbm_jax.runs import build, cli, configuration, workdir

POLL_SECONDS = 0.2
MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
NEWER_MEMORY_FRACTION = "XLA_CLIENT_MEM_FRACTION"  # JAX refuses both at once.
MEMORY_FOR_JOBS = 0.9  # of a GPU's memory, shared by the runs on it


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
        settings: of the grid's keys.
        seed: the run's.
        config: the whole config.
        folder: the work directory.
        command: what runs it.
    """

    settings: dict[str, Any]
    seed: int
    config: ml_collections.ConfigDict
    folder: pathlib.Path
    command: list[str]


def main(_: Sequence[str]) -> None:
    given = flags.FLAGS
    jax.config.update("jax_platforms", "cpu")  # The runs alone may take an accelerator's memory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not given.grid:
        raise UserError("--grid is missing: such as --grid='inference.num_steps=10,20,40'")
    if given.devices and len(given.devices) < given.jobs:
        raise UserError(f"--devices={','.join(given.devices)}: fewer than --jobs={given.jobs}")
    folder, figure = pathlib.Path(given.workdir), given.figure
    runs = plan(given.config, parse_grid(given.grid, given.config), given.seeds, folder)
    ablation.check(figure, given.config)
    if given.print_commands:
        print("\n".join(shlex.join(run.command) for run in runs))
        return
    to_do = [run for run in runs if not is_finished(run, figure)]
    failed = run_all(to_do, (given.devices or [None] * given.jobs)[: given.jobs])
    for run in failed:
        print(f"failed: {run.folder / 'log.txt'} says why", flush=True)
    finished = [run.folder if is_finished(run, figure) else None for run in runs]
    points = [(run.settings, run.seed, folder) for run, folder in zip(runs, finished, strict=True)]
    rows = ablation.collect(points, figure)
    paths = [ablation.write_table(rows, figure, folder), ablation.draw(rows, figure, folder)]
    print("\n".join(["done; look at", *(f"  {path}" for path in paths)]), flush=True)
    if failed:
        sys.exit(1)


def parse_grid(text: str, config: ml_collections.ConfigDict) -> dict[str, list[Any]]:
    """'a.b=1,2;c.d=0.1' -> {"a.b": [1, 2], "c.d": [0.1]}; UserError where a key is none."""
    known = list(workdir.flat(config.to_dict()))
    grid = {}
    for part in filter(None, text.split(";")):
        key, _, values = (side.strip() for side in part.partition("="))
        if key not in known:
            raise UserError(f"--grid: no setting {key!r}: {did_you_mean(key, known)}")
        try:
            grid[key] = list(ast.literal_eval(f"[{values}]"))
        except (SyntaxError, ValueError):  # Words without quotation marks.
            grid[key] = [value.strip() for value in values.split(",")]
        if not grid[key]:
            raise UserError(f"--grid: {key} has no values: write {key}=value,value")
    return grid


def plan(
    config: ml_collections.ConfigDict, grid: dict[str, list[Any]], seeds: int, folder: pathlib.Path
) -> list[Run]:
    """The runs of a sweep, seeds innermost; UserError where one of the configs is no model."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    runs = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        for seed in range(config.seed, config.seed + seeds):
            own = settings | {"seed": seed}
            resolved = copy.deepcopy(config)
            try:
                resolved.update_from_flattened_dict(own)
            except (TypeError, ValueError) as error:
                raise UserError(f"--grid: {error}") from error
            configuration.check(resolved)
            build.model(resolved)
            name = "_".join(f"{key}-{value}" for key, value in own.items())
            place = folder / name.replace("/", "-")
            command = [sys.executable, "-m", "lfbm_jax.main", f"--config={file}"]
            command += [f"--config.{key}={value}" for key, value in (overrides | own).items()]
            runs.append(Run(settings, seed, resolved, place, [*command, f"--workdir={place}"]))
    return runs


def is_finished(run: Run, figure: str) -> bool:
    """Whether the run's report was written after the run was last started, with this config."""
    config, report = run.folder / "config.json", ablation.report_path(run.folder, figure)
    if not (config.exists() and report.exists()):
        return False
    same = workdir.read_config(run.folder) == workdir.plain(run.config)
    return same and report.stat().st_mtime_ns >= config.stat().st_mtime_ns


def run_all(runs: list[Run], devices: list[str | None]) -> list[Run]:
    """Runs them all, one at a time on each device; at an interruption they are told to save.

    Args:
        runs: in this order.
        devices: GPU numbers, or None for a run that sees all there is.

    Returns:
        Those that ended with an error.
    """
    waiting, free, failed = runs[::-1], list(devices), []
    running: dict[subprocess.Popen, tuple[Run, str | None]] = {}
    bar = tqdm(total=len(runs), desc="sweep", unit="run", dynamic_ncols=True)
    try:
        while waiting or running:
            while waiting and free:
                run, device = waiting.pop(), free.pop(0)
                running[_start(run, device, devices.count(device))] = (run, device)
            for process in [p for p in running if p.poll() is not None]:
                run, device = running.pop(process)
                free.append(device)
                failed += [run] if process.returncode else []
                bar.update()
            time.sleep(POLL_SECONDS)
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def environment(device: str | None, jobs: int) -> dict[str, str]:
    """The variables of a run that is one of `jobs` at a time on its device.

    JAX would take three quarters of a GPU's memory for each. What the user sets is left alone.
    """
    variables = dict(os.environ)
    if device is not None:
        variables["CUDA_VISIBLE_DEVICES"] = device
    if jobs > 1 and NEWER_MEMORY_FRACTION not in variables:
        variables.setdefault(MEMORY_FRACTION, f"{MEMORY_FOR_JOBS / jobs:.3f}")
    return variables


def _start(run: Run, device: str | None, jobs: int) -> subprocess.Popen:
    """Starts a run whose output goes to its `log.txt`."""
    run.folder.mkdir(parents=True, exist_ok=True)
    # Even where a SIGKILL ends the sweep, its runs are told to save and end (Linux's util-linux).
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*guard, *run.command],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(device, jobs),
        )


if __name__ == "__main__":
    flags.DEFINE_string("grid", "", "'key=value,value;key=value,...', the x axis of the plot first")
    flags.DEFINE_integer("seeds", 1, "how many seeds every point is run with", lower_bound=1)
    flags.DEFINE_string("figure", "reconstruct.mse", "what to plot: <report>.<figure>")
    flags.DEFINE_integer("jobs", 1, "runs at a time", lower_bound=1)
    flags.DEFINE_list("devices", [], "GPUs, one a run at a time: --jobs=2 --devices=0,1")
    flags.DEFINE_string("workdir", "runs/sweep", "where the runs live")
    flags.DEFINE_bool("print_commands", False, "only print the runs' commands, one a line")
    cli.run(main, config_flags.DEFINE_config_file("config", None, "such as configs/svhn.py"))
