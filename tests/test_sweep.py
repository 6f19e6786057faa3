"""A sweep through the command line: planned, killed, gone on with, finished."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from lfbm_jax import sweep
from lfbm_jax.errors import UserError
from lfbm_jax.sweep import parse_grid
from tests.builders import small_config

GRID = "inference.num_steps=1,2;inference.step_size=0.1"


def test_grid():
    text = "inference.num_steps=10,20; inference.noise=True,False;precision=float32,bfloat16"
    grid = parse_grid(text, small_config())
    assert grid == {
        "inference.num_steps": [10, 20],
        "inference.noise": [True, False],
        "precision": ["float32", "bfloat16"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("inference.num_step=1", "did you mean 'inference.num_steps'"),
        ("inference.num_steps", "inference.num_steps has no values"),
    ),
)
def test_mistakes_in_a_grid_are_named(text, message):
    with pytest.raises(UserError, match=message):
        parse_grid(text, small_config())


@pytest.fixture
def command(tmp_path):
    main = [sys.executable, "-m", "lfbm_jax.sweep", "--config=configs/digits.py:smoke"]
    flags = [f"--grid={GRID}", "--config.tasks=('reconstruct',)", f"--workdir={tmp_path / 'sweep'}"]
    return [*main, *flags, f"--config.data.cache_dir={tmp_path / 'cache'}"]


def test_jobs_on_one_device_share_its_memory(monkeypatch):
    for name in (sweep.MEMORY_FRACTION, sweep.NEWER_MEMORY_FRACTION):
        monkeypatch.delenv(name, raising=False)
    alone, shared, everywhere = (
        sweep.environment(*given) for given in (("1", 1), ("0", 3), (None, 2))
    )
    assert sweep.MEMORY_FRACTION not in alone and alone["CUDA_VISIBLE_DEVICES"] == "1"
    assert shared[sweep.MEMORY_FRACTION] == "0.300" and shared["CUDA_VISIBLE_DEVICES"] == "0"
    assert everywhere[sweep.MEMORY_FRACTION] == "0.450"
    monkeypatch.setenv(sweep.MEMORY_FRACTION, "0.2")
    assert sweep.environment("0", 3)[sweep.MEMORY_FRACTION] == "0.2"
    monkeypatch.delenv(sweep.MEMORY_FRACTION)
    monkeypatch.setenv(sweep.NEWER_MEMORY_FRACTION, "0.2")
    assert sweep.MEMORY_FRACTION not in sweep.environment("0", 3)


def test_commands_are_printed_for_job_arrays(command, run_python):
    done = run_python([*command[1:], "--seeds=2", "--print_commands"])
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("-m lfbm_jax.main --config=configs/digits.py:smoke" in line for line in lines)
    for flag in ("inference.num_steps=2", "inference.step_size=0.1", "seed=1"):
        assert f"--config.{flag}" in lines[3]


def test_a_grid_without_a_model_is_one_line_before_anything_runs(command, run_python, tmp_path):
    done = run_python([*command[1:], "--grid=inference.num_steps=3,0"], check=False)
    assert done.returncode == 2
    assert "inference.num_steps=0" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
@pytest.mark.parametrize("signum", (signal.SIGKILL, signal.SIGTERM))
def test_a_killed_sweep_goes_on(signum, command, python_environment, repo, tmp_path):
    """The first run is finished when the sweep dies in the second; only that one runs again."""
    sweep = tmp_path / "sweep"
    first, second = (
        sweep / f"inference.num_steps-{k}_inference.step_size-0.1_seed-0" for k in (1, 2)
    )
    # Long enough that the signal comes while it trains.
    command = [*command, "--config.train.num_steps=2000", "--config.train.checkpoint_every=100"]
    with subprocess.Popen(
        command, cwd=repo, env=python_environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(second / "checkpoints" / "100")
            process.send_signal(signum)
            assert process.wait(timeout=60) == (-9 if signum == signal.SIGKILL else 143)
        finally:
            process.kill()
    wait_for_end_of_writing(second / "log.txt")
    assert "saved at step" in (second / "log.txt").read_text()
    report = first / "reports" / "reconstruct.json"
    written = report.stat().st_mtime_ns
    subprocess.run(command, cwd=repo, env=python_environment(), check=True)
    assert report.stat().st_mtime_ns == written
    assert "resuming from step" in (second / "log.txt").read_text()
    with (sweep / "reconstruct.mse.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["inference.num_steps", "1", "2"]
    assert all(0 < float(row[2]) < 2 for row in rows[1:])
    assert (sweep / "reconstruct.mse.png").exists()


def wait_for(path, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def wait_for_end_of_writing(log, seconds=60):
    """Until the run that the dying sweep told to save has said so."""
    deadline = time.monotonic() + seconds
    while "saved at step" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
