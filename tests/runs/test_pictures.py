"""Pictures in training when draws from the prior overflow."""

import types

import numpy as np

from lfbm_jax.images import masks
from lfbm_jax.runs import pictures


class Writer:
    def __init__(self):
        self.written = []

    def image(self, step, name, picture):
        self.written.append(name)


def test_a_prior_that_overflows_costs_a_picture_and_not_the_run(monkeypatch, capsys):
    def sample(num, seed):
        raise FloatingPointError(f"step 7: {num} of 64 draws from the prior overflowed")

    def reconstruct(images, seed, batch_size):
        return types.SimpleNamespace(reconstruction=np.zeros((len(images), 4, 4, 1)))

    config = types.SimpleNamespace(seed=0)
    trained = types.SimpleNamespace(
        prior_is_fitted=True, sample=sample, infer=reconstruct, config=config, step=7
    )
    split = types.SimpleNamespace(
        spread=lambda count: np.zeros((count, 4, 4, 1), np.uint8), rows=np.arange
    )
    monkeypatch.setattr(masks, "of_training_images", lambda config, rows: None)
    writer = Writer()
    data = types.SimpleNamespace(train=split, evaluated=split)
    assert pictures.draw(trained, data, writer) == {}
    assert writer.written == ["reconstructions"]
    said = "warning: no picture of samples: step 7: 64 of 64 draws from the prior overflowed\n"
    assert capsys.readouterr().out == said
