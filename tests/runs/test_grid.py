"""Lists of runs: completed in this process and in others, resumed, printed.

A program of a few lines stands in for the runs themselves.
"""

import json
import os
import shlex
import signal
import sys
import time

import pytest
from absl.testing import flagsaver

from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.runs import cli, experiment, grid, workdir
from tests.builders import small_config

NAMES = ("a", "b", "c", "d")
# Stands in for `lfbm_jax.main`: does as `what` says, and logs what happens and on which device.
PROGRAM = """
import json, os, pathlib, signal, sys, time
folder, mode, what = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def say(word):
    line = json.dumps([word, mode, folder.name, os.environ.get("CUDA_VISIBLE_DEVICES")])
    with open(folder.parent / "said", "a") as file:
        file.write(line + "\\n")
def save(*_):
    say("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
say("begin")
if what == "hang":
    say("hangs")
    time.sleep(60)
if what == "fail":
    sys.exit(1)
time.sleep(0.3)
content = {"config": json.loads((folder / "config.json").read_text()), "figures": {"n": 1.0}}
if mode == "costs":
    content["figures"]["parameters"] = 5
(folder / "figures.json").write_text(json.dumps(content))
say("end")
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Four runs whose data are never prepared."""
    monkeypatch.setattr(grid, "prepare", lambda data: None)
    found = []
    for seed, name in enumerate(NAMES):
        config = small_config()
        config.seed = seed
        found.append(grid.Run(name, config.lock(), tmp_path / "runs" / name))
    return found


@pytest.fixture
def does(monkeypatch):
    """Maps names of runs to what they do: "fail", "hang" or raise an error; others succeed."""
    does = {}

    def command(run, mode="train"):
        return [sys.executable, "-c", PROGRAM, str(run.folder), mode, does.get(run.name, "")]

    def work(mode):
        def work(config, folder):
            if isinstance(does.get(folder.name), BaseException):
                raise does[folder.name]
            costs = {"parameters": 5} if mode == "costs" else {}
            experiment._write({"n": 1.0} | costs, config, folder)

        return work

    monkeypatch.setattr(grid.Run, "command", command)
    monkeypatch.setattr(grid, "WORK", {mode: work(mode) for mode in grid.WORK})
    return does


def complete(runs, *flags, **more):
    """Returns the command's exit status, and the names of the runs that `conclude` was given."""
    concluded = []

    def conclude(done):
        concluded.extend(run.name for run in done)
        return []

    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(lambda: grid.complete(runs, conclude, **more), None, ["command", *flags])
    return ended.value.code or 0, concluded


def said(runs):
    """The lines that the processes logged, in order."""
    path = runs[0].folder.parent / "said"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def most_at_once(lines, of=lambda line: None):
    """The largest number of simultaneous processes with the same value of `of`."""
    counts, most = {}, 0
    for line in lines:
        counts[of(line)] = counts.get(of(line), 0) + (1 if line[0] == "begin" else -1)
        most = max(most, counts[of(line)])
    return most


@pytest.mark.parametrize("jobs", (0, 1, 3))
def test_a_failed_run_stops_no_other_and_only_it_is_done_again(jobs, runs, does, capsys):
    does["b"] = "fail" if jobs else FloatingPointError("train/mse is nan at step 7")
    assert complete(runs, f"--jobs={jobs}") == (1, ["a", "c", "d"])
    out = capsys.readouterr().out
    reason = f"see {runs[1].folder / 'log.txt'}" if jobs else "train/mse is nan"
    assert f"failed: b: {reason}" in out
    written = {run.name: run.folder.stat().st_mtime_ns for run in runs if run.name != "b"}
    del does["b"]
    assert complete(runs, f"--jobs={jobs}") == (0, [*NAMES])
    assert capsys.readouterr().out.count("already done") == 3
    assert written == {n: (runs[0].folder.parent / n).stat().st_mtime_ns for n in written}
    assert complete(runs, f"--jobs={jobs}") == (0, [*NAMES])


@pytest.mark.parametrize("devices", ((), ("0", "1"), ("3", "3")))
def test_as_many_at_a_time_as_asked_for_one_on_each_device(devices, runs, does):
    flags = [f"--devices={','.join(devices)}"] if devices else []
    assert complete(runs, "--jobs=2", *flags) == (0, [*NAMES])
    lines = said(runs)
    assert sorted(line[2] for line in lines if line[0] == "begin") == [*NAMES]
    assert most_at_once(lines) == 2
    if devices:
        assert {line[3] for line in lines} == {*devices}
        assert most_at_once(lines, lambda line: line[3]) == devices.count(devices[0])


@pytest.mark.parametrize("jobs", (0, 3))
def test_costs_are_measured_one_at_a_time_after_all_training(jobs, runs, does):
    assert complete(runs, f"--jobs={jobs}", with_costs=True) == (0, [*NAMES])
    assert [run.figures()["parameters"] for run in runs] == [5] * 4
    measured = [line for line in said(runs) if line[1] == "costs"]
    if jobs:
        assert said(runs)[-8:] == measured and most_at_once(measured) == 1
    assert complete(runs, f"--jobs={jobs}", with_costs=True) == (0, [*NAMES])
    assert [line for line in said(runs) if line[1] == "costs"] == measured


def test_an_interrupted_list_resumes_at_the_run_that_was_interrupted(runs, does):
    does["c"] = Interrupted(signal.SIGTERM, step=5)
    assert complete(runs) == (143, [])
    assert [run.figures() is None for run in runs] == [False, False, True, True]
    del does["c"]
    assert complete(runs) == (0, [*NAMES])


@pytest.mark.parametrize("signum", (signal.SIGTERM, signal.SIGINT))
def test_a_signal_tells_the_processes_at_work_to_save(signum, runs, does, monkeypatch):
    does["b"] = does["c"] = "hang"

    def signal_once_both_hang(seconds, sleep=time.sleep):
        sleep(seconds)
        if sum(line[0] == "hangs" for line in said(runs)) == 2:
            os.kill(os.getpid(), signum)

    usual = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Background jobs ignore SIGINT.
    try:
        with monkeypatch.context() as patch:
            patch.setattr(grid.time, "sleep", signal_once_both_hang)
            assert complete(runs, "--jobs=2") == (128 + signum, [])
    finally:
        signal.signal(signal.SIGINT, usual)
    assert sorted(line[2] for line in said(runs) if line[0] == "saved") == ["b", "c"]
    assert [run.figures() is None for run in runs] == [False, True, True, True]
    does.clear()
    assert complete(runs, "--jobs=2") == (0, [*NAMES])


def test_only_the_commands_of_what_is_left_are_printed(runs, does, monkeypatch, capsys):
    del does  # The runs' own commands are printed.
    monkeypatch.undo()
    experiment.claim(runs[1].config, runs[1].folder)
    experiment._write({"n": 1.0}, runs[1].config, runs[1].folder)
    assert complete(runs, "--print_commands") == (0, [])
    lines = capsys.readouterr().out.splitlines()
    left = [run for run in runs if run.name != "b"]
    for line, run in zip(lines, left, strict=True):
        command = [sys.executable, "-m", "lfbm_jax.main", f"--workdir={run.folder}"]
        assert shlex.split(line) == command
        assert workdir.load_config(run.folder).to_dict() == run.config.to_dict()


@pytest.mark.parametrize("flags", ((), ("--jobs=2",), ("--print_commands",)))
def test_a_mistake_in_any_run_is_one_line_before_anything_is_done(flags, runs, does, capsys):
    root = runs[0].folder.parent
    wrong = [runs[0], runs[1]._replace(config=small_config())]
    wrong[1].config.model.sigma = -1.0
    other = runs[1].config.copy_and_resolve_references()
    other.model.sigma = 0.25
    for listed, message in (
        (wrong, "run b: model.sigma=-1.0: must be positive"),
        ([*runs, runs[2]], "run c is listed twice"),
        (runs, f"--workdir={root / 'b'} was made with another config: model.sigma: 0.25 there"),
    ):
        assert complete(listed, *flags) == (2, [])
        err = capsys.readouterr().err
        assert err.startswith(f"error: {message}") and err.count("\n") == 1
        assert not (root / "a" / "figures.json").exists() and said(runs) == []
        if not root.exists():
            experiment.claim(other, root / "b")


@pytest.mark.parametrize("jobs", (0, 2))
def test_all_data_are_prepared_once_before_anything_is_done(jobs, runs, does, monkeypatch, capsys):
    runs[3].config.unlock().data.exclude_labels = (7,)
    asked_for = []

    def prepare(data):
        asked_for.append(data.exclude_labels)
        if data.exclude_labels:
            raise UserError("no label 7")

    monkeypatch.setattr(grid, "prepare", prepare)
    assert complete(runs, f"--jobs={jobs}") == (2, [])
    assert "error: no label 7" in capsys.readouterr().err
    assert asked_for == [(), (7,)]
    assert not runs[0].folder.exists()


def test_devices_need_as_many_jobs_and_determinism_a_process(runs, does, capsys):
    for flags in (["--devices=0,1"], ["--devices=0,1", "--jobs=3"]):
        assert complete(runs, *flags) == (2, [])
        assert "--devices=0,1: give --jobs from 1 to 2" in capsys.readouterr().err
    runs[0].config.deterministic = True
    assert complete(runs) == (2, [])
    assert "run a: deterministic=True needs a new process: use --jobs=1" in capsys.readouterr().err
    assert complete(runs, "--jobs=1") == (0, [*NAMES])


def test_jobs_on_one_device_share_its_memory(monkeypatch):
    for name in (grid.MEMORY_FRACTION, grid.NEWER_MEMORY_FRACTION):
        monkeypatch.delenv(name, raising=False)
    alone, shared, everywhere = (
        grid.environment(*chosen) for chosen in (("1", 1), ("0", 3), (None, 2))
    )
    assert grid.MEMORY_FRACTION not in alone and alone["CUDA_VISIBLE_DEVICES"] == "1"
    assert shared[grid.MEMORY_FRACTION] == "0.300" and shared["CUDA_VISIBLE_DEVICES"] == "0"
    assert everywhere[grid.MEMORY_FRACTION] == "0.450"
    monkeypatch.setenv(grid.MEMORY_FRACTION, "0.2")
    assert grid.environment("0", 3)[grid.MEMORY_FRACTION] == "0.2"
    monkeypatch.delenv(grid.MEMORY_FRACTION)
    monkeypatch.setenv(grid.NEWER_MEMORY_FRACTION, "0.2")
    assert grid.MEMORY_FRACTION not in grid.environment("0", 3)


def test_a_process_is_deterministic_only_where_its_own_config_says_so(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{cli.XLA_FLAGS} {cli.DETERMINISTIC}")
    assert grid.environment(None, 1)["XLA_FLAGS"] == cli.XLA_FLAGS
