"""Every warning is provoked by a run that goes wrong in that way, and healthy runs are quiet."""

import json

import numpy as np
import pytest

from lfbm_jax import health, model, train
from lfbm_jax.data import Cache, Split
from lfbm_jax.health import Monitor
from tests.builders import small_config

random = np.random.default_rng(0)
IMAGES = Split(random.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8), None)


def config_with(**settings):
    config = small_config()
    config.generator.layers = ((1, 8, 1, 0),)
    config.prior.num_steps = 1
    config.inference.num_steps = 10
    config.optimizer.generator.learning_rate = 0.03
    config.train.update({"batch_size": 16, "log_every": 4, "steps_per_call": 4, "num_steps": 120})
    config.train.update({"sample_every": 20, "checkpoint_every": 1000})
    config.update_from_flattened_dict(settings)
    return config.lock()


# What goes wrong -> settings that make it, and the setting that the warning names.
PROVOKED = {
    "chains_far": ({"inference.step_size": 2.4}, "inference.step_size"),
    "chains_steep": ({"model.sigma": 0.003}, "model.sigma"),
    # Without noise all chains end at the mode, which the prior follows.
    "prior_collapsed": (
        {
            "inference.noise": False,
            "inference.num_steps": 400,
            "inference.step_size": 0.05,
            "optimizer.prior.learning_rate": 0.03,
            "model.sigma": 50.0,
        },
        "inference.noise",
    ),
    "prior_mismatch": (
        {"model.sigma": 0.02, "optimizer.prior.learning_rate": 1e-9},
        "optimizer.prior.learning_rate",
    ),
    "reconstruction_stalled": ({"inference.step_size": 1e-4}, "inference.num_steps"),
    None: ({"inference.step_size": 0.2}, ""),
}


@pytest.mark.parametrize("problem", PROVOKED)
def test_a_run_that_goes_wrong_says_so_once(problem, tmp_path, capsys):
    settings, knob = PROVOKED[problem]
    config = config_with(**settings)
    train.train(config, model.build(config), Cache(IMAGES, None, tmp_path), tmp_path)
    found = {line["problem"]: line["message"] for line in health.read(tmp_path)}
    assert len(found) == len(health.read(tmp_path))
    if problem is None:
        assert not found
        return
    assert knob in found[problem]
    output = capsys.readouterr()
    assert (output.out + output.err).count(found[problem]) == 1


def test_a_resumed_run_has_warned_already(tmp_path):
    """What `metrics.jsonl` shows is written again to `health.jsonl`, but not said again."""
    figures = {"train/norm_z": 1e3}
    fresh = Monitor(tmp_path, config_with(), True, IMAGES)
    messages = [fresh.update(step, figures) for step in (1, 2, 3, 4)]
    assert [len(found) for found in messages] == [0, 0, 1, 0]
    before = health.read(tmp_path)
    lines = [json.dumps({"step": step} | figures) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    resumed = Monitor(tmp_path, config_with(), True, IMAGES)
    assert health.read(tmp_path) == before and before[0]["step"] == 3
    assert resumed.update(4, figures) == []


def test_passing_trouble_is_no_warning(tmp_path):
    monitor = Monitor(tmp_path, config_with(), True, IMAGES)
    far, near = {"train/norm_z": 1e3}, {"train/norm_z": 2.0}
    mending = [{"sample/mismatch": 100 * 0.8**i} for i in range(8)]
    falling = [{"train/mse": 0.97**i} for i in range(40)]
    for step, figures in enumerate([far, far, near, far, far, near, *mending, *falling]):
        assert monitor.update(step, figures) == []
