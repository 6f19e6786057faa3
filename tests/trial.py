"""A run small enough to be started, stopped and compared many times."""

import json
import time

import jax
import numpy as np

from lfbm_jax import data, learning
from lfbm_jax.runs import build, train, workdir
from lfbm_jax.runs.checkpoints import Checkpoints
from tests.builders import experiment

STEPS = 90
# Checkpoints at 9, 18, ..., 90; a call may straddle none of them.
SETTINGS = {
    "data.horizontal_flip": True,
    "data.mask": "random_box:3",
    "prior.num_steps": 1,
    "prior.hidden_width": 4,
    "train.num_steps": STEPS,
    "train.steps_per_call": 3,
    "train.log_every": 6,
    "train.checkpoint_every": 9,
    "train.sample_every": 100_000,
    "tasks": (),
}


def arguments(run, *more, **settings):
    """What Python is to be given to train in the folder `run`."""
    settings = SETTINGS | settings
    return [
        *("-m", "lfbm_jax.main", "--config=configs/digits.py:smoke", f"--workdir={run}"),
        f"--config.data.cache_dir={run.parent / 'cache'}",
        *(f"--config.{key}={value}" for key, value in settings.items()),
        *more,
    ]


def config_of(run, **settings):
    config = experiment("digits", "smoke")
    config.update_from_flattened_dict(SETTINGS | settings)
    config.data.cache_dir = str(run.parent / "cache")
    return config


def train_here(run, **settings):
    """The same run in this process."""
    return train_as(config_of(run, **settings), run)


def train_as(config, run):
    """Trains as a config says, in this process and in the folder `run`."""
    workdir.claim(run, config)
    return train.train(config, build.model(config), data.prepare(config.data), run)


def steps(run):
    """The steps of whole checkpoints, oldest first."""
    folder = run / "checkpoints"
    found = folder.iterdir() if folder.exists() else ()
    return sorted(int(path.name) for path in found if path.name.isdigit())


def being_saved(run):
    """Whether a checkpoint is half written just now."""
    folder = run / "checkpoints"
    return folder.exists() and any(not path.name.isdigit() for path in folder.iterdir())


def state_of(run, step=None, x64=False):
    with jax.enable_x64(x64):
        return state_as(config_of(run), run, step)


def state_as(config, run, step=None):
    """The state in a checkpoint of a config's run, the newest one without a step."""
    checkpoints = Checkpoints(run, read_only=True)
    template = jax.eval_shape(lambda: learning.init_state(config, build.model(config)))
    try:
        return checkpoints.restore(template, step)
    finally:
        checkpoints.close()


def metrics(run):
    """Lines of metrics.jsonl without the wall-clock figures."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines
    ]


def assert_same_run(one, other):
    """Bit for bit."""
    assert metrics(one) == metrics(other)
    jax.tree.map(np.testing.assert_array_equal, state_of(one), state_of(other))


def wait_until(condition, processes, seconds=300):
    """Waits for something that running processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
