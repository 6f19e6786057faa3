"""Learning rates against their closed forms, at every iteration of a few epochs."""

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.learning import schedules
from lfbm_jax.runs import configuration
from tests.builders import small_config

RATE, EPOCH = 3e-3, 7
STEPS = np.arange(60)


def rates(**settings):
    section = small_config().optimizer.generator
    section.update({"learning_rate": RATE, "decay_per_epoch": 0.9} | settings)
    with jax.enable_x64(True):
        schedule = schedules.learning_rate(section, EPOCH)
        return np.array([float(schedule(step)) for step in STEPS])


CLOSED_FORMS = {
    "per_epoch": 0.9 ** (STEPS // EPOCH),
    "constant": np.ones(len(STEPS)),
    "cosine": 0.5 * (1 + np.cos(np.pi * np.minimum(STEPS / 40, 1))),
}


@pytest.mark.parametrize("warmup_steps", (0, 1, 10))
@pytest.mark.parametrize("schedule", CLOSED_FORMS)
def test_rates_follow_their_closed_forms(schedule, warmup_steps):
    """The ramp is a factor: it moves neither the ends of epochs nor the end of the cosine."""
    found = rates(schedule=schedule, warmup_steps=warmup_steps, decay_steps=40)
    ramp = np.minimum((STEPS + 1) / max(warmup_steps, 1), 1)
    expected = RATE * ramp * CLOSED_FORMS[schedule]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_compiled_rates_decay_at_the_first_step_of_an_epoch():
    """In compiled float32 arithmetic, some multiples of these divided by them are not whole."""
    section = small_config().optimizer.generator
    section.update({"learning_rate": RATE, "decay_per_epoch": 0.998})
    for steps_per_epoch in (61, 115, 636):
        epochs = np.arange(1, 500)
        steps = np.stack([epochs * steps_per_epoch - 1, epochs * steps_per_epoch])
        schedule = jax.jit(jax.vmap(schedules.learning_rate(section, steps_per_epoch)))
        found = [schedule(row.astype(np.int32)) for row in steps]
        expected = RATE * 0.998 ** np.stack([epochs - 1, epochs])
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_shortest_settings_are_allowed():
    config = small_config()
    config.optimizer.prior.update({"schedule": "cosine", "decay_steps": 1, "warmup_steps": 1})
    configuration.check(config)


def test_every_schedule_is_tested():
    assert set(CLOSED_FORMS) == set(schedules.SCHEDULES)


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule": "cosine"}, "decay_steps=0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0"),
    ),
)
def test_wrong_settings_are_named_before_training(settings, message):
    config = small_config()
    config.optimizer.prior.update(settings)
    with pytest.raises(UserError, match=f"optimizer.prior.*{message}"):
        configuration.check(config)
