"""The memory estimate: its parts from shapes, and the whole against the compiler's own plan."""

import jax
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.costs import memory
from lfbm_jax.model import Example
from lfbm_jax.runs import build
from tests.builders import experiment, small_config


def estimated(config, batch, device_bytes=16e9):
    return memory.estimate(config, build.model(config), batch, device_bytes)


def test_what_grows_with_what():
    config = small_config()
    whole = estimated(config, 8)
    size = whole["prepared_parameters"] // 2
    assert (whole["state"], whole["gradients"]) == (3 * size, 2 * size)
    config.train.update({"microbatch_size": 2, "ema_decay": 0.9, "steps_per_call": 5})
    split = estimated(config, 8)
    assert (split["state"], split["gradients"]) == (4 * size, 3 * size)
    assert 4 * split["activations"] == whole["activations"] > 0
    assert split["images"] == 5 * whole["images"] == 5 * 8 * 64
    config.inference.num_steps = 77
    assert estimated(config, 8) == split, "nothing is kept of a chain"


def test_activations_are_those_of_the_generator():
    """For the 8 x 8 generator: every layer's input and where it was negative, and little else."""
    per_example = estimated(small_config(), 1)["activations"]
    outputs = 4 * (2 * 2 * 3 + 4 * 4 * 4 + 8 * 8 * 1)
    assert outputs < per_example < 6 * outputs


def test_largest_microbatch_is_the_last_that_fits():
    config = small_config()
    config.train.microbatch_size = 3
    at_3 = estimated(config, 8)["total"] / memory.SHARE_OF_DEVICE
    assert estimated(config, 8, at_3)["largest_microbatch_size"] == 3
    assert estimated(config, 8, at_3 - 2)["largest_microbatch_size"] == 2
    assert estimated(config, 8, 1e3)["largest_microbatch_size"] == 0
    assert estimated(config, 8)["largest_microbatch_size"] == 8


def test_256_fits_a_device_of_16_gb():
    found = estimated(experiment("celebahq256"), 100)
    assert found["total"] < 16e9 * memory.SHARE_OF_DEVICE
    assert found["largest_microbatch_size"] == 100


@pytest.mark.slow
def test_estimate_against_the_plan_of_the_compiler(monkeypatch):
    """SVHN's step with the convolutions of accelerators, compiled but not run."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, cpu: default(*args))
    config = experiment("svhn").copy_and_resolve_references()
    batch = 32
    config.train.batch_size = batch
    built = build.model(config)
    state = jax.eval_shape(lambda: learning.init_state(config, built))
    shape = (1, 1, batch)
    example = Example(
        jax.ShapeDtypeStruct((*shape, 32, 32, 3), np.uint8),
        jax.ShapeDtypeStruct(shape, np.int32),
        jax.ShapeDtypeStruct(shape, np.float32),
    )
    update = learning.make_update(config, built, steps_per_epoch=100)
    plan = update.lower(state, example, np.int32(1)).compile().memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    assert planned == pytest.approx(estimated(config, batch)["total"], rel=0.2)
