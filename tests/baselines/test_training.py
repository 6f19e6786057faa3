"""Baselines through the command line: trained, resumed, sampled from and evaluated like all."""

import json

import numpy as np
import pytest

from lfbm_jax.runs.workdir import read_config
from tests import trial
from tests.builders import experiment


@pytest.mark.parametrize("variant", ["rae", "two_stage_vae", "sri"])
def test_a_baseline_trains_with_pictures_and_a_log(variant, tmp_path):
    config = experiment("digits", f"{variant},smoke")
    config.data.cache_dir = str(tmp_path / "cache")
    config.train.sample_every = 1
    run = tmp_path / "run"
    assert trial.train_as(config, run).step == config.train.num_steps
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"train/mse", "sample/log_p_z"} <= line.keys()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["rae", "two_stage_vae", "sri_l5"])
def test_a_resumed_baseline_equals_an_uninterrupted_one(variant, run_python, tmp_path):
    def train(folder, num_steps):
        command = ["-m", "lfbm_jax.main", f"--config=configs/digits.py:{variant},smoke"]
        command += [f"--workdir={tmp_path / folder}", f"--config.train.num_steps={num_steps}"]
        command += [f"--config.data.cache_dir={tmp_path / 'cache'}"]
        run_python(command)
        run_python([*command, "--mode=sample", "--num=8"])

    train("whole", 2)
    whole = np.load(tmp_path / "whole" / "samples.npy")
    train("parts", 1)
    halfway = np.load(tmp_path / "parts" / "samples.npy")
    train("parts", 2)
    np.testing.assert_array_equal(np.load(tmp_path / "parts" / "samples.npy"), whole)
    assert np.any(halfway != whole)
    last = [
        json.loads((tmp_path / folder / "metrics.jsonl").read_text().splitlines()[-1])
        for folder in ("whole", "parts")
    ]
    timeless = [{k: v for k, v in line.items() if "time/" not in k} for line in last]
    assert timeless[0] == timeless[1]
    assert {"train/mse", "prior_fit/mmd"} <= timeless[0].keys()
    for task in read_config(tmp_path / "whole")["tasks"]:
        assert (tmp_path / "whole" / "reports" / f"{task}.json").exists()
