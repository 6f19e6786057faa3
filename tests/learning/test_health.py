"""Every warning is provoked by a run that goes wrong in that way, and healthy runs are quiet."""

import json

import numpy as np
import pytest

from lfbm_jax.data import Cache, Split
from lfbm_jax.learning import health
from lfbm_jax.learning.health import Monitor
from lfbm_jax.runs import build, train
from tests.builders import small_config

# Images that the generator below can learn: tanh of a linear function of two coordinates.
random = np.random.default_rng(0)
PIXELS = np.tanh(random.normal(size=(16, 2)) @ random.normal(size=(2, 64)))
IMAGES = Split(np.uint8(127.5 * (PIXELS.reshape(16, 8, 8, 1) + 1)), None)
VARIANCE = np.var(PIXELS, axis=0).mean()


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
    "chains_steep": ({"model.sigma": 0.01}, "model.sigma"),
    # Distant latent vectors, to which the prior spreads.
    "prior_collapsed": (
        {"model.sigma": 0.0005, "optimizer.prior.learning_rate": 0.1},
        "optimizer.prior.learning_rate",
    ),
    "prior_mismatch": (
        {"model.sigma": 0.02, "optimizer.prior.learning_rate": 1e-9},
        "optimizer.prior.learning_rate",
    ),
    "reconstruction_stalled": ({"inference.step_size": 1e-4}, "inference.num_steps"),
    None: ({"inference.step_size": 0.3}, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROVOKED)
def test_a_run_that_goes_wrong_says_so_once(problem, tmp_path, capsys):
    settings, knob = PROVOKED[problem]
    config = config_with(**settings)
    train.train(config, build.model(config), Cache(IMAGES, None, tmp_path), tmp_path)
    found = {line["problem"]: line["message"] for line in health.read(tmp_path)}
    assert len(found) == len(health.read(tmp_path))
    if problem is None:
        assert not found
        return
    assert knob in found[problem]
    output = capsys.readouterr()
    assert (output.out + output.err).count(found[problem]) == 1


# What goes wrong -> three readings that show it, of d = 5 and step_size 0.1.
READINGS = {
    "chains_far": [{"train/norm_z": value} for value in (30.0, 31.0, 25.0)],
    "chains_steep": [
        {"train/grad_norm_log_prior": 10.0, "train/grad_norm_log_likelihood": 600.0}
    ] * 3,
    "prior_collapsed": [{"sample/log_p_z": 5 * (level - 1.42)} for level in (3.4, 3.6, 3.5)],
    "prior_mismatch": [{"sample/mismatch": value} for value in (6.0, 7.0, 8.0)],
    "reconstruction_stalled": [{"train/mse": 0.6 * VARIANCE}] * 11,
}


# What the message says of the latest of them by then.
LAST = {
    "chains_far": "the norm of z is 25,",
    "chains_steep": "moves z by 2.95 in one step; lower inference.step_size, or raise model.sigma",
    "prior_collapsed": "its log-determinant is 3.6 nats",
    "prior_mismatch": "they are 1.4 nats",
    "reconstruction_stalled": "60% of the variance",
}


@pytest.mark.parametrize("problem", READINGS)
def test_readings_that_make_a_warning(problem, tmp_path):
    """The same readings, slightly better, give no warning."""
    monitor = Monitor(tmp_path, config_with(), True, IMAGES)
    messages = [monitor.update(step, line) for step, line in enumerate(READINGS[problem])]
    assert sum(map(len, messages)) == 1
    (found,) = health.read(tmp_path)
    assert found["problem"] == problem
    assert [found["message"]] in messages
    assert LAST[problem] in found["message"]
    quiet = Monitor(tmp_path, config_with(), True, IMAGES)
    for step, line in enumerate(READINGS[problem]):
        better = {name: value * (0.7 if value > 0 else 1) for name, value in line.items()}
        assert quiet.update(step, better) == []
    assert health.read(tmp_path) == []


def test_the_log_determinant_is_not_read_where_the_density_has_no_constant(tmp_path):
    monitor = Monitor(tmp_path, config_with(), False, IMAGES)
    assert not any(monitor.update(i, READINGS["prior_collapsed"][i]) for i in range(3))


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path):
    whole = {"step": 1, "problem": "chains_far", "message": "far"}
    (tmp_path / health.FILE).write_text(json.dumps(whole) + '\n{"step": 2, "pro')
    assert health.read(tmp_path) == [whole]


def test_a_resumed_run_has_warned_already(tmp_path):
    """Warnings from `metrics.jsonl` are written to `health.jsonl` again, but not printed again."""
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
    recovering = [{"sample/mismatch": 100 * 0.8**i} for i in range(8)]
    falling = [{"train/mse": 0.97**i} for i in range(40)]
    for step, figures in enumerate([far, far, near, far, far, near, *recovering, *falling]):
        assert monitor.update(step, figures) == []
