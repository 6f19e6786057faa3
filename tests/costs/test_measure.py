"""The times of a training step and of its parts."""

import jax
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.costs import measure
from lfbm_jax.runs import build
from tests.builders import small_config


@pytest.fixture(scope="module")
def step():
    """A step with a learned sigma, which cannot run as a whole, since compiling it takes long."""
    config = small_config()
    config.prior = build.defaults("prior", "gaussian")
    config.generator.layers = ((1, 8, 1, 0),)
    config.inference.num_steps = 1
    config.model.learned_sigma = True
    config.train.update({"batch_size": 8, "microbatch_size": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "compile_update", lambda *_: None)
        return measure.Step(config, build.model(config))


def test_parts_of_a_step_with_a_learned_sigma(step):
    """Beta then holds more than the generator's parameters."""
    found = step.parts(["generator_update"])
    assert found.keys() == {"generator_update_seconds"}
    assert found["generator_update_seconds"] > 0


def test_parts_are_of_one_devices_share_in_its_microbatches(step, monkeypatch):
    """8 of 16 images: three microbatches of three images, or one draw of 8 images."""
    counts = []

    def seconds(function, *arguments):
        counts.append(len(arguments[-1]))
        return 2.0

    monkeypatch.setattr(measure, "_seconds", seconds)
    both = jax.tree.map(lambda array: np.concatenate([array] * 2), step._batch)
    monkeypatch.setattr(step, "_batch", both)
    assert step.parts() == {
        "inference_seconds": 6.0,
        "prior_update_seconds": 6.0,
        "generator_update_seconds": 6.0,
        "synthesis_milliseconds": 2000.0,
    }
    assert counts == [3, 3, 3, 8]
