"""A sweep: its list of runs, and the command, which is killed, resumed and finished."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.runs import workdir
from lfbm_jax.sweep import parse_grid, plan
from tests.builders import experiment, small_config

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


def test_every_run_has_its_settings_and_seed_and_nothing_else_of_its_own(tmp_path):
    config = experiment("digits")
    grid = {"inference.num_steps": [10, 20], "precision": ["bfloat16"]}
    points = plan(config, grid, 2, tmp_path)
    assert [(p.settings["inference.num_steps"], p.seed) for p in points] == [
        (10, 0), (10, 1), (20, 0), (20, 1)
    ]  # fmt: skip
    plain = workdir.flat(config.to_dict())
    for settings, seed, run in points:
        own = workdir.flat(run.config.to_dict())
        assert own == plain | settings | {"seed": seed}
        assert run.folder.parent == tmp_path
    assert plain == workdir.flat(config.to_dict()), "the given config is left alone"
    with pytest.raises(UserError, match=r"--grid: .*num_steps"):
        plan(config, {"inference.num_steps": ["many"]}, 1, tmp_path)


@pytest.fixture
def command(tmp_path):
    main = [sys.executable, "-m", "lfbm_jax.sweep", "--config=configs/digits.py:smoke"]
    flags = [f"--grid={GRID}", "--config.tasks=('reconstruct',)", f"--workdir={tmp_path / 'sweep'}"]
    return [*main, *flags, f"--config.data.cache_dir={tmp_path / 'cache'}"]


def test_commands_are_printed_for_job_arrays(command, run_python, tmp_path):
    done = run_python([*command[1:], "--seeds=2", "--print_commands"])
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    folder = tmp_path / "sweep" / "inference.num_steps-2_inference.step_size-0.1_seed-1"
    assert lines[3].endswith(f"-m lfbm_jax.main --workdir={folder}")
    config = workdir.load_config(folder)
    assert (config.inference.num_steps, config.inference.step_size, config.seed) == (2, 0.1, 1)


def test_a_grid_without_a_model_is_one_line_before_anything_runs(command, run_python, tmp_path):
    done = run_python([*command[1:], "--grid=inference.num_steps=3,0"], check=False)
    assert done.returncode == 2
    assert "inference.num_steps=0" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", (0, 1))
@pytest.mark.parametrize("signum", (signal.SIGKILL, signal.SIGTERM))
def test_a_killed_sweep_resumes(signum, jobs, command, python_environment, repo, tmp_path):
    """The sweep dies in the second run, after the first; only the second runs again."""
    sweep = tmp_path / "sweep"
    first, second = (
        sweep / f"inference.num_steps-{k}_inference.step_size-0.1_seed-0" for k in (1, 2)
    )
    # Long enough for the signal to arrive during training, if no time goes to pictures.
    train = {"num_steps": 2000, "checkpoint_every": 100, "sample_every": 2000, "log_every": 100}
    command = [*command, *(f"--config.train.{name}={value}" for name, value in train.items())]
    command.append(f"--jobs={jobs}")
    log = second / "log.txt" if jobs else tmp_path / "terminal"
    with (tmp_path / "terminal").open("w") as terminal:
        options = {"cwd": repo, "env": python_environment(), "stdout": terminal}
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as process:
            try:
                wait_for(second / "checkpoints" / "100")
                process.send_signal(signum)
                assert process.wait(timeout=60) == (-9 if signum == signal.SIGKILL else 143)
            finally:
                process.kill()
        if jobs or signum == signal.SIGTERM:
            wait_for_end_of_writing(log)
            assert "saved at step" in log.read_text()
        report = first / "reports" / "reconstruct.json"
        written = report.stat().st_mtime_ns
        subprocess.run(command, check=True, **options)
    assert report.stat().st_mtime_ns == written
    assert "resuming from step" in log.read_text()
    with (sweep / "reconstruct.mse.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["inference.num_steps", "1", "2"]
    assert all(0 < float(row[2]) < 2 for row in rows[1:])
    assert (sweep / "reconstruct.mse.png").exists()
    assert f'href="{first.name}/reports/index.html"' in (sweep / "index.html").read_text()


def wait_for(path, seconds=1200):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def wait_for_end_of_writing(log, seconds=60):
    """Waits until the run that the dying sweep told to save has logged it."""
    deadline = time.monotonic() + seconds
    while "saved at step" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
