"""The benchmark: its ratios, its peers, and the files with its figures."""

import importlib.util
import json
import types

import pytest

from lfbm_jax import benchmark
from lfbm_jax.errors import UserError
from lfbm_jax.runs import recorded, tables
from tests.builders import experiment


def worker(seconds, memory):
    return types.SimpleNamespace(seconds=seconds, peak_memory_bytes=memory)


def test_ratios_are_of_turns_taken_side_by_side():
    """A machine that is ten times slower in the second turn does not change the ratio."""
    found = benchmark._beside(worker([1.0, 10.0, 1.0], 600), worker([2.0, 20.0, 4.0], 400))
    assert found["speed_ratio"] == {"median": 2.0, "min": 2.0, "max": 4.0}
    assert found["seconds_per_step"] == 4.0
    assert found["memory_ratio"] == 1.5


def test_peers_that_cannot_be_measured_are_named(tmp_path, monkeypatch):
    config = experiment("svhn")
    with pytest.raises(UserError, match="--peer=pytorhc: neither pytorch, pytorch-compile nor"):
        benchmark._check_peer("pytorhc", config)
    (tmp_path / "lfbm_jax").mkdir()
    (tmp_path / "lfbm_jax" / "benchmark.py").touch()
    benchmark._check_peer(str(tmp_path), config)
    benchmark._check_peer("deterministic", experiment("svhn", "lebm"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"PyTorch is missing: pip install -e \.\[peers\]"):
        benchmark._check_peer("pytorch", config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    benchmark._check_peer("pytorch", config)
    with pytest.raises(UserError, match="has only prior 'glow', not 'energy'"):
        benchmark._check_peer("pytorch-compile", experiment("svhn", "lebm"))


@pytest.mark.slow
def test_two_checkouts_take_turns_and_the_tables_find_the_times(run_python, repo, tmp_path):
    run = tmp_path / "run"
    command = ["-m", "lfbm_jax.benchmark", "--config=configs/digits.py:smoke", "--steps=2"]
    command += ["--config.model.latent_dim=6", "--parts=synthesis", f"--workdir={run}"]
    done = run_python([*command, f"--peer={repo}", f"--out={tmp_path / 'figures.json'}"])
    assert f"{repo}: speed_ratio" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    other = figures["peers"][str(repo)]
    assert 0.02 < other["speed_ratio"]["median"] < 50
    assert 0.5 < other["memory_ratio"] < 2
    assert figures["synthesis_milliseconds"] > 0 and "inference_seconds" not in figures
    assert 0 < figures["estimated_memory_bytes"] < figures["peak_memory_bytes"]
    report = json.loads((run / "reports" / "benchmark.json").read_text())
    assert report["figures"]["seconds_per_step"] == figures["seconds_per_step"]
    lines = tables.table_11(recorded.find_runs([run])[0])
    (row,) = [line for line in lines if "LFBM-MCMC, ours" in line]
    milliseconds = f"{figures['synthesis_milliseconds']:.4g} (1)"
    assert [cell.strip() for cell in row.split("|")][-3:] == ["4", milliseconds, ""]
