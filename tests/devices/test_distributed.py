"""Several real processes of one run, over loopback: agreement, failure and loss."""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from lfbm_jax.devices import distributed
from tests import trial
from tests.conftest import REPO

PROGRAM = """
import pathlib, sys
import jax, numpy as np
from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError

address, count, index = sys.argv[1:]
distributed.initialize(address, int(count), int(index))
assert jax.process_count() == int(count)

def fail_in(process):
    if jax.process_index() == process:
        raise UserError(f"disk {process} is full")
    return "fine"

for process in (0, 1):
    try:
        distributed.everywhere(lambda: fail_in(process))
    except UserError as error:
        print("all fail:", error)
print(distributed.everywhere(lambda: fail_in(7)))

def read():
    assert jax.process_index() == 0
    return {"a": np.arange(3.0, dtype=np.float32), "b": np.int32(7)}

blank = {"a": np.empty(3, np.float32), "b": np.int32(0)}
print({name: value.tolist() for name, value in distributed.from_first(read, blank).items()})
print(distributed.from_first(lambda: None, blank))
print("largest", distributed.largest(10 * jax.process_index()))
with distributed.own_folder(pathlib.Path("given")) as folder:
    print("folder", folder == pathlib.Path("given"), folder.exists())
print("left", folder.exists())
"""


def communicate(processes, timeout=300):
    """(status, stdout, stderr) of each."""
    outputs = [process.communicate(timeout=timeout) for process in processes]
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


def test_processes_agree_on_results_and_on_failures(start_processes):
    for index, (status, out, err) in enumerate(communicate(start_processes(PROGRAM, 2))):
        assert status == 0, err
        lines = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
        own, other = f"disk {index} is full", f"process {1 - index}: disk {1 - index} is full"
        failures = [own, other] if index == 0 else [other, own]
        assert lines[:2] == [f"all fail: {text}" for text in failures]
        assert lines[2:6] == ["fine", "{'a': [0.0, 1.0, 2.0], 'b': 7}", "None", "largest 10"]
        # This process makes not the given folder but a temporary one, which is removed at the end.
        assert lines[6:] == ["folder True False" if index == 0 else "folder False True",
                             "left False"]


WRONG = {
    (None, 2, 0): "go with --coordinator",
    ("localhost", 2, 0): "--coordinator=localhost: use HOST:PORT",
    ("localhost:port", 2, 0): "use HOST:PORT",
    ("localhost:1", None, 0): "Number of processes must be defined",
    ("localhost:1", 2, 2): "process_id < num_processes",
    ("auto", None, None): "coordinator_address should be defined",
}


def test_wrong_flags_are_named(run_python):
    program = f"""
        from lfbm_jax.devices import distributed
        from lfbm_jax.errors import UserError
        for arguments in {list(WRONG)}:
            try:
                distributed.initialize(*arguments)
            except UserError as error:
                print(error)
    """
    printed = run_python(program).stdout.splitlines()
    assert len(printed) == len(WRONG)
    for line, message in zip(printed, WRONG.values(), strict=True):
        assert message in line


@pytest.mark.parametrize(
    ("started", "count", "missing"),
    [((0,), 2, "process 1"), ((1,), 2, "process 0"), ((0, 1), 3, "process 2")],
)
def test_a_process_that_never_comes_is_named_in_one_line(
    started, count, missing, python_environment
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "lfbm_jax.main", "--config=configs/digits.py:smoke"]
    command += ["--mode=describe", f"--coordinator={address}", f"--num_processes={count}"]
    command += ["--wait_seconds=4"]
    processes = [
        subprocess.Popen(
            [*command, f"--process_id={index}"],
            cwd=REPO,
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in started
    ]
    for index, (status, _, err) in zip(started, communicate(processes, 60), strict=True):
        assert status == 2, err
        waits, *_, error = err.splitlines()
        assert waits.startswith(f"process {index} of {count} waits for process")
        assert error.startswith(f"error: --coordinator={address}: {missing} did not start within")


def test_a_single_process_needs_no_others(tmp_path):
    assert distributed.is_first()
    assert distributed.largest(3) == 3
    assert distributed.from_first(lambda: "x", None) == "x"
    with pytest.raises(ZeroDivisionError):
        distributed.everywhere(lambda: 1 / 0)
    with distributed.own_folder(tmp_path) as folder:
        assert folder == tmp_path


FLOAT64 = {"JAX_ENABLE_X64": "1"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, run_python):
    """One process's results, in float64, so that others can be compared."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    run_python(trial.arguments(run), env=FLOAT64)
    return run


def assert_close(run, uninterrupted):
    """DESIGN's rule 1; norms of gradients are left out as in test_sharding."""
    for ours, theirs in zip(trial.metrics(run), trial.metrics(uninterrupted), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if "grad_norm" not in name:
                np.testing.assert_allclose(ours[name], value, rtol=1e-9, err_msg=name)
    one, other = (trial.state_of(folder, x64=True).parameters for folder in (run, uninterrupted))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), one, other)


@pytest.mark.slow
@pytest.mark.parametrize("victims, later", [((1,), 1), ((0, 1), 3)])
def test_sigterm_to_one_or_all_saves_once_and_another_process_count_goes_on(
    victims, later, uninterrupted, start_processes, tmp_path
):
    run = tmp_path / "run"
    processes = start_processes(trial.arguments(run), 2, env=FLOAT64)
    trial.wait_until((run / "checkpoints" / "9").exists, processes)
    for victim in victims:
        processes[victim].send_signal(signal.SIGTERM)
    ended = communicate(processes)
    assert [status for status, _, _ in ended] == [143, 143], ended
    saved = trial.steps(run)[-1]
    assert all(f"saved at step {saved}, run" in out for _, out, _ in ended)
    for status, _, err in communicate(start_processes(trial.arguments(run), later, env=FLOAT64)):
        assert status == 0, err
    assert_close(run, uninterrupted)
    assert len(list(run.glob("events.out.tfevents.*"))) == 2  # one writer a start


@pytest.mark.slow
@pytest.mark.parametrize("victim, devices", [(0, 2), (1, 1), (1, 2)])
def test_a_lost_process_ends_the_other_and_the_run_goes_on(
    victim, devices, uninterrupted, start_processes, tmp_path
):
    run = tmp_path / "run"
    processes = start_processes(trial.arguments(run), 2, devices, env=FLOAT64)
    trial.wait_until((run / "checkpoints" / "9").exists, processes)
    processes[victim].kill()
    (status, _, err) = communicate([processes[1 - victim]], timeout=60)[0]
    assert status not in (0, 2), err
    assert "one has ended" in err or "another task died" in err
    print(err[-3000:])
    for status, _, err in communicate(start_processes(trial.arguments(run), 1, env=FLOAT64)):
        assert status == 0, err
    assert_close(run, uninterrupted)


@pytest.mark.slow
def test_an_uneven_number_of_devices_is_refused(start_processes, tmp_path):
    processes = start_processes(trial.arguments(tmp_path / "run"), 2, devices=(2, 1))
    for status, _, err in communicate(processes):
        assert status == 2, err
        assert "process 1 has 1 devices and process 0 has 2" in err
        assert "Traceback" not in err


@pytest.mark.slow
def test_a_failure_of_the_writing_process_is_told_by_all(start_processes, tmp_path):
    (tmp_path / "file").touch()
    cache = f"--config.data.cache_dir={tmp_path / 'cache'}"
    arguments = trial.arguments(tmp_path / "file" / "run", cache)
    for status, _, err in communicate(start_processes(arguments, 2)):
        assert status == 2, err
        assert "cannot be written (Not a directory)" in err
        assert "Traceback" not in err


@pytest.mark.slow
def test_two_processes_evaluate_like_one(uninterrupted, start_processes, tmp_path):
    """Every task divides its work; the reports are the same except for times and devices."""
    reports = []
    for count in (1, 2):
        run = tmp_path / f"run{count}"
        shutil.copytree(uninterrupted, run)
        more = ["--mode=evaluate", "--config.tasks=('generate','reconstruct')"]
        for status, _, err in communicate(
            start_processes(trial.arguments(run, *more), count, env=FLOAT64)
        ):
            assert status == 0, err
        reports.append(figures(run))
    assert reports[0].keys() == reports[1].keys()
    for name, value in reports[0].items():
        np.testing.assert_allclose(reports[1][name], value, rtol=1e-8, err_msg=name)


def figures(run: pathlib.Path) -> dict[str, float]:
    found = {}
    for path in sorted((run / "reports").glob("*.json")):
        for name, value in json.loads(path.read_text())["figures"].items():
            if not name.startswith("time/"):
                found[f"{path.stem}/{name}"] = value
    return found
