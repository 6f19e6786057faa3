"""The command that checks a device, on a CPU."""

import json
import subprocess
import sys

import pytest

from lfbm_jax.runs import checks


def test_unknown_parts_are_named(run_python):
    done = run_python(["-m", "lfbm_jax.gpu_check", "--parts=value"], check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --parts=value: did you mean 'values'?"


@pytest.mark.slow
def test_the_whole_check_runs_on_a_cpu(repo, python_environment, tmp_path):
    """Uses narrow networks, and PyTorch's peers if PyTorch is installed."""
    done = subprocess.run(
        [repo / "launch" / "gpu_check", "--tiny", f"--out={tmp_path}", "--minutes=20"],
        env=python_environment(env={"PYTHON": sys.executable}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(results) == list(checks.PARTS)
    assert results["resume"]["figures"]["arrays_that_differ"] == 0
    assert results["svhn"]["figures"]["peers"]["deterministic"]["seconds_per_step"] > 0
    text = (tmp_path / "gpu_check.md").read_text()
    for row in ("| bfloat16 |", "| configs/cifar10.py:smoke |", "| LEBM, ours |"):
        assert row in text
