"""Completes a list of runs, in this process or in several, or prints their commands.

`compare`, `anomaly` and `sweep` differ only in the runs that they list and the results that they
write. A run is done once `experiment.figures` returns its figures. A separate process carries out a
run by `lfbm_jax.main --workdir=FOLDER`; it reads exactly the config that was planned, because
`complete` has written it into the folder.
"""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import ml_collections
from absl import flags

from lfbm_jax.data import prepare
from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.files import terminal
from lfbm_jax.runs import build, cli, configuration, experiment, given

POLL_SECONDS = 0.2
MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
NEWER_MEMORY_FRACTION = "XLA_CLIENT_MEM_FRACTION"  # JAX refuses both at once.
MEMORY_FOR_JOBS = 0.9  # fraction of a GPU's memory that the runs on it share
# Mode of `lfbm_jax.main` -> the function that does the same in this process.
WORK: dict[str, Callable[..., object]] = {"train": experiment.run, "costs": experiment.add_costs}

JOBS = flags.DEFINE_integer(
    "jobs",
    0,
    "runs at a time, each in its own process; 0: one after another in this process",
    lower_bound=0,
)
DEVICES = flags.DEFINE_list(
    "devices", [], "GPUs, each for one process at a time: --jobs=2 --devices=0,1"
)
PRINT_COMMANDS = flags.DEFINE_bool(
    "print_commands", False, "only print the commands of the runs to do, one per line"
)
flags.adopt_module_key_flags(given)


class Run(NamedTuple):
    """One run of a list.

    Attributes:
        name: its name in messages.
        config: the whole config.
        folder: the work directory, which no other run uses.
    """

    name: str
    config: ml_collections.ConfigDict
    folder: pathlib.Path

    def figures(self) -> dict[str, float | None] | None:
        """The figures of the run by names such as "reconstruct/mse"; None if it is not done."""
        return experiment.figures(self.config, self.folder)

    def command(self, mode: str = "train") -> list[str]:
        """The command of the run. `experiment.claim` must have written its config first."""
        command = [sys.executable, "-m", "lfbm_jax.main", f"--workdir={self.folder}"]
        return command if mode == "train" else [*command, f"--mode={mode}"]


def complete(
    runs: Sequence[Run],
    conclude: Callable[[list[Run]], list[pathlib.Path]],
    with_costs: bool = False,
) -> None:
    """Completes the runs that are not done yet, then writes the results of all.

    If a run fails, the others still run, and the process ends with status 1. With --print_commands,
    this only makes the work directories and prints the commands of the runs that are not done.

    Args:
        runs: the runs, in starting order.
        conclude: writes tables and plots of the runs that are done; returns their paths.
        with_costs: whether to measure parameters and times of every model (`experiment.add_costs`),
            one model at a time and after all training, when the machine is otherwise idle.

    Raises:
        UserError: before any training, if a config describes no model, its data cannot be prepared,
            or its folder is the work directory of another config.
        Interrupted, KeyboardInterrupt, SystemExit: a signal came; the active runs have saved.
    """
    jobs, devices = JOBS.value, DEVICES.value
    if devices and not 0 < jobs <= len(devices):
        raise UserError(f"--devices={','.join(devices)}: give --jobs from 1 to {len(devices)}")
    if jobs or PRINT_COMMANDS.value:
        # Leaves the accelerators' memory to the runs.
        jax.config.update("jax_platforms", "cpu")
    _check(runs, in_this_process=not (jobs or PRINT_COMMANDS.value))
    to_do: list[Run] = []
    done_before: list[Run] = []
    for run in runs:
        (to_do if run.figures() is None else done_before).append(run)
    if not PRINT_COMMANDS.value:
        for data in {repr(run.config.data): run.config.data for run in to_do}.values():
            prepare(data)
    for run in to_do:
        experiment.claim(run.config, run.folder)
    if PRINT_COMMANDS.value:
        for run in to_do:
            print(shlex.join(run.command()))
        return
    for run in done_before:
        terminal.note(f"already done: {run.folder}")
    failed = _carry_out(to_do, "train", jobs)
    done = [run for run in runs if run.figures() is not None]
    if with_costs:
        unknown = [run for run in done if "parameters" not in (run.figures() or {})]
        failed |= _carry_out(unknown, "costs", min(1, jobs))
    if done:
        print("\n".join(["done; look at", *(f"  {path}" for path in conclude(done))]), flush=True)
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", flush=True)
    if failed:
        sys.exit(1)


def environment(device: str | None, jobs: int) -> dict[str, str]:
    """The environment variables of a process that shares its device with `jobs` - 1 others.

    Without a limit, JAX would reserve three quarters of a GPU's memory for each. Limits that the
    user has set are kept.
    """
    # Restores the user's XLA_FLAGS, because the run's own config decides what to add to them.
    variables = os.environ | {"XLA_FLAGS": cli.XLA_FLAGS}
    if device is not None:
        variables["CUDA_VISIBLE_DEVICES"] = device
    if jobs > 1 and NEWER_MEMORY_FRACTION not in variables:
        variables.setdefault(MEMORY_FRACTION, f"{MEMORY_FOR_JOBS / jobs:.3f}")
    return variables


def _check(runs: Sequence[Run], in_this_process: bool) -> None:
    """Raises UserError if the list of runs cannot be carried out."""
    folders = set()
    for run in runs:
        try:
            configuration.check(run.config)
            build.model(run.config)
        except UserError as error:
            raise UserError(f"run {run.name}: {error}") from error
        if run.folder in folders:
            raise UserError(f"run {run.name} is listed twice")
        folders.add(run.folder)
        if in_this_process and run.config.deterministic and not cli.is_deterministic():
            raise UserError(f"run {run.name}: deterministic=True needs a new process: use --jobs=1")


def _carry_out(runs: list[Run], mode: str, jobs: int) -> dict[str, str]:
    """Does one kind of work on all runs; returns {name: reason} for those that failed."""
    if not runs:
        return {}
    if jobs:
        devices: Sequence[str | None] = DEVICES.value or [None] * jobs
        return _in_processes(runs, mode, devices[:jobs])
    failed = {}
    for number, run in enumerate(runs, start=1):
        terminal.note(f"{mode} {run.name}, {number} of {len(runs)} ...")
        try:
            WORK[mode](run.config, run.folder)
        except Interrupted:
            raise
        except Exception as error:  # The other runs still run, as they would in separate processes.
            expected = isinstance(error, UserError | FloatingPointError)
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            failed[run.name] = " ".join(reason.split())
            print(f"failed: {failed[run.name]}", file=sys.stderr, flush=True)
    return failed


def _in_processes(runs: list[Run], mode: str, devices: Sequence[str | None]) -> dict[str, str]:
    """Does the work in processes, one at a time per entry of `devices`.

    A signal ends this once all active runs have saved. Returns as `_carry_out` does.
    """
    waiting, free, failed = runs[::-1], list(devices), {}
    running: dict[subprocess.Popen, tuple[Run, str | None]] = {}
    usual = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    bar = terminal.bar(total=len(runs), desc=mode, unit="run", dynamic_ncols=True)
    try:
        while waiting or running:
            while waiting and free:
                run, device = waiting.pop(), free.pop(0)
                running[_start(run, mode, device, devices.count(device))] = (run, device)
            for process in [p for p in running if p.poll() is not None]:
                run, device = running.pop(process)
                free.append(device)
                if process.returncode:
                    failed[run.name] = f"see {run.folder / 'log.txt'}"
                bar.update()
            time.sleep(POLL_SECONDS)
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, usual)
    return failed


def _start(run: Run, mode: str, device: str | None, jobs: int) -> subprocess.Popen:
    """Starts a run in a process and appends its output to `log.txt` in its folder."""
    # setpriv (util-linux) makes the kernel tell the runs to save even if SIGKILL ends this process.
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*guard, *run.command(mode)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(device, jobs),
        )
