"""Pictures in training when draws from the prior overflow."""

import types

import numpy as np
import pytest

from lfbm_jax.images import masks
from lfbm_jax.runs import build, pictures
from lfbm_jax.trained.programs import Samples


class Writer:
    def __init__(self):
        self.written = []

    def image(self, step, name, picture):
        self.written.append(name)


@pytest.mark.parametrize("too_many", (1, 100, 1000))
def test_a_prior_that_overflows_costs_a_picture_and_not_the_run(too_many, monkeypatch, capsys):
    """The draws of the picture, only those of a task, which are more, or only a figure."""

    def sample(num, seed):
        if num >= too_many:
            raise FloatingPointError(f"{num} draws overflowed")
        return Samples(np.zeros((num, 3)), np.zeros((num, 4, 4, 1)))

    def monitor(trained, data, config):
        mean = trained.sample(200, seed=0).z.mean()
        return {"mean": mean if too_many < 1000 else np.nan}

    def reconstruct(images, seed, batch_size):
        return types.SimpleNamespace(reconstruction=np.zeros((len(images), 4, 4, 1)))

    trained = types.SimpleNamespace(
        prior_is_fitted=True,
        sample=sample,
        log_prior=lambda z: z.sum(axis=1),
        infer=reconstruct,
        config=types.SimpleNamespace(seed=0, tasks=("one",)),
        step=7,
    )
    monkeypatch.setattr(build, "task", lambda name: types.SimpleNamespace(monitor=monitor))
    split = types.SimpleNamespace(
        spread=lambda count: np.zeros((count, 4, 4, 1), np.uint8), rows=np.arange
    )
    monkeypatch.setattr(masks, "of_training_images", lambda config, rows: None)
    writer = Writer()
    data = types.SimpleNamespace(train=split, evaluated=split)
    figures, said = pictures.draw(trained, data, writer), capsys.readouterr().out
    if too_many == 1:
        assert figures == {} and writer.written == ["reconstructions"]
        assert said.startswith("warning: no picture of samples: 64 draws overflowed\n")
    else:
        assert figures == {"sample/log_p_z": 0} and "samples" in writer.written
    missing = "one logs nothing: 200 draws overflowed" if too_many < 1000 else "one/mean is nan"
    assert f"warning: {missing}" in said
