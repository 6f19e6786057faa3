"""The times of a training step and of its parts."""

from lfbm_jax import learning
from lfbm_jax.costs import measure
from lfbm_jax.runs import build
from tests.builders import small_config


def test_parts_of_a_step_with_a_learned_sigma(monkeypatch):
    """Beta then holds more than the generator's parameters."""
    monkeypatch.setattr(learning, "compile_update", lambda *_: None)  # Only parts are measured.
    config = small_config()
    config.prior = build.defaults("prior", "gaussian")
    config.generator.layers = ((1, 8, 1, 0),)
    config.inference.num_steps = 1
    config.model.learned_sigma = True
    config.train.batch_size = 4
    found = measure.Step(config, build.model(config)).parts(["generator_update"])
    assert found.keys() == {"generator_update_seconds"}
    assert found["generator_update_seconds"] > 0
