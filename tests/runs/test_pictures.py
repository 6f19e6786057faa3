"""Pictures in training when draws from the prior overflow."""

import types

import numpy as np
import pytest

from lfbm_jax.runs import pictures
from lfbm_jax.trained.programs import Samples


def model_whose_draws_are(z):
    """A trained model that draws z [N, d], decodes it to grey images, and has log p(z) = sum z."""
    return types.SimpleNamespace(
        sample=lambda num, seed: Samples(z, np.zeros((len(z), 4, 4, 1), np.float32)),
        log_prior=lambda z: z.sum(axis=1),
        config=types.SimpleNamespace(seed=0),
        step=7,
    )


class Writer:
    def image(self, step, name, picture):
        self.written = step, name, picture.shape


def test_a_draw_that_overflows_is_reported_and_left_out(capsys):
    z = np.ones((64, 3), np.float32)
    z[5, 1], z[9] = np.inf, np.nan
    writer = Writer()
    assert pictures._draw_samples(model_whose_draws_are(z), writer) == 3
    assert writer.written[:2] == (7, "samples")
    assert capsys.readouterr().out.startswith("warning: step 7: 2 of 64 draws from the prior overf")


def test_a_prior_without_finite_draws_ends_the_run():
    z = np.full((64, 3), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match="step 7: no draw from the prior is finite"):
        pictures._draw_samples(model_whose_draws_are(z), Writer())
