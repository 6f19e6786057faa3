"""A run that was stopped, however that happened, resumes as if it had not been interrupted."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build, train, workdir, writers
from lfbm_jax.runs.checkpoints import Checkpoints
from tests import trial
from tests.builders import experiment


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    trial.train_here(run)
    return run


@pytest.fixture
def start(python_environment, repo):
    """start(run, *flags, **settings) -> a new training process."""

    def start(run, *more, **settings):
        return subprocess.Popen(
            [sys.executable, *trial.arguments(run, *more, **settings)],
            cwd=repo,
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_killed_and_interrupted_runs_go_on_from_the_newest_checkpoint(
    uninterrupted, start, tmp_path
):
    """SIGKILL between checkpoints, SIGKILL while one is written, SIGTERM, then a run to the end."""
    run = tmp_path / "run"
    kinds = [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, False), (0, False)]
    for signum, inside in kinds:
        before = trial.steps(run)
        process = start(run)
        if signum:
            trial.wait_until(lambda before=before: trial.steps(run)[-1:] > before[-1:], [process])
            if inside:
                trial.wait_until(lambda: trial.being_saved(run), [process])
            process.send_signal(signum)
        output, _ = process.communicate(timeout=300)
        if before:
            assert f"resuming from step {before[-1]} in" in output
        if signum == signal.SIGTERM:
            assert f"saved at step {trial.steps(run)[-1]}; run the same command" in output
            assert process.returncode == 143
        else:
            assert process.returncode == -signum, output
    assert_ended(run, uninterrupted)


def assert_ended(run, uninterrupted):
    trial.assert_same_run(run, uninterrupted)
    assert all(path.name.isdigit() for path in (run / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills_at_random_moments(start, request, tmp_path):
    """Kills while starting, preparing, saving and training; --kill-seed=N gives other moments."""
    random = np.random.default_rng(request.config.getoption("--kill-seed"))
    settings = {"data.source": "embedded", "train.num_steps": 6000, "train.checkpoint_every": 30}
    run, cache = tmp_path / "run", tmp_path / "cache"

    def preparing(left_before):
        return lambda: set(cache.glob("*.tmp")) - left_before

    def progressed(before):
        return lambda: trial.steps(run)[-1:] > before[-1:]

    stages = ["preparing"] * 4 + ["starting"] * 2 + ["training"] * 7 + ["saving"] * 7
    for number, stage in enumerate(stages):
        before, begin = trial.steps(run), time.monotonic()
        left_before = set(cache.glob("*.tmp"))
        process = start(run, **settings)
        if stage == "preparing":
            trial.wait_until(preparing(left_before), [process])
            time.sleep(random.uniform(0, 0.03))
        elif stage == "starting":
            time.sleep(random.uniform(0, 10))
        else:
            trial.wait_until(progressed(before), [process])
            time.sleep(random.uniform(0, 1))
            if stage == "saving":
                trial.wait_until(lambda: trial.being_saved(run), [process])
                time.sleep(random.uniform(0, 0.05))
        process.kill()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, output
        print(f"kill {number + 1}, {stage}: after {time.monotonic() - begin:.1f} s,"
              f" checkpoints {trial.steps(run)}, half-written {trial.being_saved(run)}")
        if before and "resuming" in output:
            assert f"resuming from step {before[-1]} in" in output
    before = trial.steps(run)
    output, _ = start(run, **settings).communicate(timeout=600)
    assert f"resuming from step {before[-1]} in" in output
    whole = tmp_path / "whole" / "run"
    trial.train_here(whole, **settings)
    assert_ended(run, whole)


def test_one_signal_sent_twice_is_one_but_a_later_one_kills(run_python):
    """A dying parent with many threads sends one signal several times."""
    program = """
        import signal, time
        from lfbm_jax.runs import signals

        with signals.collected() as received:
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
            print(received[0], flush=True)
            time.sleep(1.1)
            signal.raise_signal(signal.SIGTERM)
            print("alive")
    """
    done = run_python(program, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "15\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_current_call(signum, uninterrupted, tmp_path, monkeypatch):
    run = tmp_path / "run"
    check_finite = train._check_finite

    def signalling(metrics, step):
        if step == 33:
            signal.raise_signal(signum)
        check_finite(metrics, step)

    handler = signal.getsignal(signum)
    with monkeypatch.context() as patch:
        patch.setattr(train, "_check_finite", signalling)
        with pytest.raises(train.Interrupted) as interrupted:
            trial.train_here(run)
    assert (interrupted.value.signum, interrupted.value.step) == (signum, 36)
    assert signal.getsignal(signum) is handler
    assert trial.steps(run)[-1] == 36
    if signum == signal.SIGINT:
        trial.train_here(run)
        trial.assert_same_run(run, uninterrupted)


def test_damaged_newest_checkpoint_gives_way_to_the_one_before(uninterrupted, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    newest = run / "checkpoints" / str(trial.STEPS)
    # Truncate all files, because Orbax also keeps a second copy that is never read.
    for data in newest.rglob("d/*"):
        os.truncate(data, data.stat().st_size // 2)
    damaged = [path.read_bytes() for path in sorted(newest.rglob("d/*"))]
    trial.train_here(run)
    output = capsys.readouterr().out
    assert f"warning: checkpoint {trial.STEPS} is damaged" in output
    assert f"resuming from step {trial.STEPS - 9}" in output
    trial.assert_same_run(run, uninterrupted)
    kept = run / "set_aside" / str(trial.STEPS)
    assert f"checkpoint {trial.STEPS} is kept in {kept}" in output
    assert [path.read_bytes() for path in sorted(kept.rglob("d/*"))] == damaged


def test_lines_that_a_resumed_run_writes_again_are_kept(tmp_path):
    """Remains of a line after a power cut are kept too; a second resume appends to the file."""
    lines = [json.dumps({"step": step}) + "\n" for step in (1, 2, 3)]
    path, cut = tmp_path / "metrics.jsonl", tmp_path / "metrics_cut.jsonl"
    path.write_text("".join(lines) + '{"step": 4, "tr')
    writers.MetricsWriter(tmp_path, 2).close()
    assert path.read_text() == "".join(lines[:2])
    assert cut.read_text() == lines[2] + '{"step": 4, "tr\n'
    path.write_bytes(lines[0].encode() + bytes(9) + b"\xff\n" + lines[1].encode())
    writers.MetricsWriter(tmp_path, 2).close()
    assert path.read_text() == lines[0]
    assert cut.read_bytes().endswith(b'"tr\n' + bytes(9) + b"\xff\n" + lines[1].encode())
    before = cut.read_bytes()
    writers.MetricsWriter(tmp_path, 2).close()
    assert (path.read_text(), cut.read_bytes()) == (lines[0], before)


@pytest.mark.parametrize("resumed_at", (0, 2))
def test_tensorboard_discards_what_is_written_again(resumed_at, tmp_path, monkeypatch):
    """A run that died before its first checkpoint begins again at 0, over points of its own."""
    asked = []
    monkeypatch.setattr(
        writers.tensorboardX, "SummaryWriter",
        lambda folder, purge_step: asked.append(purge_step) or types.SimpleNamespace(close=int),
    )  # fmt: skip
    writers.MetricsWriter(tmp_path, resumed_at).close()
    assert asked == [resumed_at + 1]


def test_an_input_output_error_stops_training_and_changes_nothing(uninterrupted, tmp_path):
    """The kernel raises the error, because the file links to unmapped memory."""
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    described = run / "checkpoints" / str(trial.STEPS) / "state" / "_METADATA"
    described.rename(tmp_path / "aside")
    described.symlink_to("/proc/self/mem")
    longer = {"train.num_steps": trial.STEPS + 3}
    with pytest.raises(UserError, match=f"checkpoint {trial.STEPS} .*Input/output error"):
        trial.train_here(run, **longer)
    assert trial.steps(run) == trial.steps(uninterrupted)
    assert trial.metrics(run) == trial.metrics(uninterrupted)
    described.unlink()
    (tmp_path / "aside").rename(described)
    assert int(trial.state_of(run).step) == trial.STEPS


def test_changed_bytes_are_noticed(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    checksum = run / "checkpoints" / str(trial.STEPS) / "checksum" / "metadata"
    stored = json.loads(checksum.read_text())
    checksum.write_text(json.dumps({"state": stored["state"] ^ 1}))
    assert int(trial.state_of(run).step) == trial.STEPS - 9


def test_looking_at_a_run_leaves_a_half_written_checkpoint_alone(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    half = run / "checkpoints" / "99.orbax-checkpoint-tmp"
    half.mkdir()
    trial.state_of(run)
    assert half.exists()
    checkpoints = Checkpoints(run)  # as for training; Orbax cleans up in the background
    deadline = time.monotonic() + 30
    while half.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    checkpoints.close()
    assert not half.exists()


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    config = experiment("digits", "smoke")
    state = learning.init_state(config, build.model(config))
    bad = jax.tree.map(np.asarray, state)
    bad.parameters.beta["layer_0"]["bias"] = np.full_like(
        bad.parameters.beta["layer_0"]["bias"], np.nan
    )
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(FloatingPointError, match=r"parameters\.beta\.layer_0\.bias"):
        checkpoints.save(bad)
    assert checkpoints.steps() == []
    checkpoints.close()


def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="training stops"):
        trial.train_here(run, **{"optimizer.generator.learning_rate": 1e18})
    for line in trial.metrics(run):
        assert all(np.isfinite(value) for value in line.values())


def test_a_second_run_in_a_work_directory_is_refused(tmp_path):
    with workdir.lock(tmp_path), pytest.raises(UserError, match="another run is training there"):
        workdir.lock(tmp_path)
    workdir.lock(tmp_path).close()


@pytest.mark.slow
def test_a_second_process_in_a_work_directory_is_refused(start, tmp_path):
    """The first process continues. Its lock ends with it, even if it is killed."""
    run = tmp_path / "run"
    first = start(run, **{"train.num_steps": 100_000})
    trial.wait_until(lambda: trial.steps(run), [first])
    second = start(run)
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 2, output
    assert f"error: --workdir={run}: another run is training there" in output
    assert first.poll() is None
    first.kill()
    first.communicate()
    third = start(run, **{"train.num_steps": trial.steps(run)[-1] + 3})
    output, _ = third.communicate(timeout=300)
    assert third.returncode == 0, output


@pytest.mark.parametrize("prepare", [workdir.lock, lambda run: workdir.claim(run, config())])
def test_a_work_directory_that_cannot_be_written_is_named(prepare, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--workdir=.*run cannot be written \(Not a directory\)"):
        prepare(tmp_path / "file" / "run")


def config():
    return experiment("digits", "smoke")


@pytest.mark.slow
def test_a_read_only_work_directory_is_named(python_environment, repo, tmp_path):
    """The test mounts its own read-only file system in a user namespace."""
    namespace = ["unshare", "-Urm", "sh", "-c"]
    mount = f"mount -t tmpfs -o ro tmpfs {tmp_path}"
    allowed = shutil.which("unshare") and (
        subprocess.run([*namespace, mount], capture_output=True, check=False).returncode == 0
    )
    if not allowed:
        pytest.skip("needs the right to mount a file system in a user namespace")
    # The default data cache of the test session stays writable.
    arguments = trial.arguments(tmp_path / "run", "--config.data.cache_dir=")
    done = subprocess.run(
        [*namespace, f'{mount} && exec "$0" "$@"', sys.executable, *arguments],
        cwd=repo,
        env=python_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"error: --workdir={tmp_path / 'run'} cannot be written (Read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_config_differences_name_the_key_and_leave_free_keys_alone():
    old = {"model": {"sigma": 0.3}, "train": {"num_steps": 2}, "task": {"generate": {"n": 1}}}
    new = {"model": {"sigma": 0.5}, "train": {"num_steps": 9}, "task": {"generate": {"n": 2}}}
    assert workdir.differences(old, new) == ["model.sigma: 0.3 there, 0.5 now"]
    assert pathlib.Path(workdir.__file__).exists()
