"""The benchmark's command: peers in their own processes, and the files with its figures."""

import json

import pytest

from lfbm_jax import benchmark
from lfbm_jax.errors import UserError
from lfbm_jax.runs import recorded, tables, workdir
from tests.builders import experiment


def test_a_run_that_is_timed_is_left_alone(tmp_path):
    config = experiment("digits", "smoke")
    benchmark._claim(tmp_path, config)
    before = (tmp_path / "config.json").read_bytes()
    longer = config.copy_and_resolve_references()
    longer.train.num_steps = 99
    with workdir.lock(tmp_path):  # as the training process does
        benchmark._claim(tmp_path, longer)
    assert (tmp_path / "config.json").read_bytes() == before
    longer.seed = 1
    with pytest.raises(UserError, match="seed: 0 there, 1 now"):
        benchmark._claim(tmp_path, longer)


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
