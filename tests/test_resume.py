"""A run that is stopped, in whatever way, goes on as if nothing had happened."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from lfbm_jax import learning, model, workdir
from lfbm_jax.checkpoints import Checkpoints
from tests.builders import experiment

STEPS = 60
OVERRIDES = [
    "--config.data.horizontal_flip=True",
    "--config.data.mask=random_box:3",
    f"--config.train.num_steps={STEPS}",
    "--config.train.steps_per_call=3",
    "--config.train.log_every=6",
    "--config.train.checkpoint_every=9",
    "--config.train.sample_every=1000",
    "--config.tasks=()",
]


def command(run, cache):
    main = [sys.executable, "-m", "lfbm_jax.main", "--config=configs/digits.py:smoke"]
    return [*main, f"--workdir={run}", f"--config.data.cache_dir={cache}", *OVERRIDES]


def metrics(run):
    """Lines of metrics.jsonl without the wall-clock figures."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines
    ]


def state_of(run, step=None):
    config = experiment("digits", "smoke")
    checkpoints = Checkpoints(run)
    try:
        return checkpoints.restore(learning.init_state(config, model.build(config)), step)
    finally:
        checkpoints.close()


def assert_same_run(one, other):
    assert metrics(one) == metrics(other)
    jax.tree.map(np.testing.assert_array_equal, state_of(one), state_of(other))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, python_environment, repo):
    folder = tmp_path_factory.mktemp("uninterrupted")
    run = folder / "run"
    subprocess.run(
        command(run, folder / "cache"), check=True, cwd=repo, env=python_environment()
    )
    return run


@pytest.fixture
def interrupt(tmp_path, python_environment, repo):
    """Starts the run, sends a signal once a checkpoint is there, and returns (folder, exit)."""

    def interrupt(signum, first_checkpoint=9):
        run = tmp_path / "run"
        process = subprocess.Popen(
            command(run, tmp_path / "cache"),
            cwd=repo,
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 300
        while not (run / "checkpoints" / str(first_checkpoint)).exists():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=300)
        return run, process.returncode, output

    def resume(run):
        return subprocess.run(
            command(run, tmp_path / "cache"),
            check=True,
            cwd=repo,
            env=python_environment(),
            capture_output=True,
            text=True,
        ).stdout

    return interrupt, resume


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_resumed_run_equals_an_uninterrupted_one(signum, uninterrupted, interrupt):
    stop, resume = interrupt
    run, status, output = stop(signum)
    saved = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    assert saved < STEPS, "the run ended before the signal came"
    if signum == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 128 + signum
        assert f"saved at step {saved}, run the same command to go on" in output
    assert f"resuming from step {saved}" in resume(run)
    assert_same_run(run, uninterrupted)


def test_damaged_newest_checkpoint_gives_way_to_the_one_before(
    uninterrupted, interrupt, tmp_path
):
    _, resume = interrupt
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    newest = run / "checkpoints" / str(STEPS)
    data = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(data, data.stat().st_size // 2)
    output = resume(run)
    assert f"warning: checkpoint {STEPS} is damaged" in output
    assert "resuming from step 54" in output
    assert_same_run(run, uninterrupted)


def test_changed_bytes_are_noticed(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    checksum = run / "checkpoints" / str(STEPS) / "checksum" / "metadata"
    stored = json.loads(checksum.read_text())
    checksum.write_text(json.dumps({"crc32": stored["crc32"] ^ 1}))
    assert int(state_of(run).step) == 54


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    config = experiment("digits", "smoke")
    state = learning.init_state(config, model.build(config))
    bad = jax.tree.map(np.asarray, state)
    bad.parameters.beta["layer_0"]["bias"] = np.full_like(
        bad.parameters.beta["layer_0"]["bias"], np.nan
    )
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(FloatingPointError, match=r"parameters\.beta\.layer_0\.bias"):
        checkpoints.save(bad)
    assert checkpoints.steps() == []
    checkpoints.close()


def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(run_python, tmp_path):
    run = tmp_path / "run"
    arguments = command(run, tmp_path / "cache")[1:]
    settings = ["--config.optimizer.generator.learning_rate=1e18", "--config.train.log_every=3"]
    done = run_python([*arguments, *settings], check=False)
    assert done.returncode == 2
    assert "training stops" in done.stderr
    assert "Traceback" not in done.stderr
    for line in metrics(run):
        assert all(np.isfinite(value) for value in line.values())


def test_config_differences_name_the_key_and_leave_free_keys_alone():
    old = {"model": {"sigma": 0.3}, "train": {"num_steps": 2}, "task": {"generate": {"n": 1}}}
    new = {"model": {"sigma": 0.5}, "train": {"num_steps": 9}, "task": {"generate": {"n": 2}}}
    assert workdir.differences(old, new) == ["model.sigma: 0.3 there, 0.5 now"]
    assert pathlib.Path(workdir.__file__).exists()
