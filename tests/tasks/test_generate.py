"""Synthesis: samples of a linear generator, whose moments are known in closed form."""

import jax
import numpy as np
import pytest

from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.tasks import generate
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model
from tests.rounding import assert_close

D, SHAPE, COUNT = 3, (4, 4, 1), 2000


def test_figures_are_those_of_the_prior_and_the_training_images(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    matrix, bias = 0.2 * random.normal(size=(16, D)), 0.3 + 0.2 * random.normal(size=16)
    train, test = random.integers(0, (200, 256), (9, 2)).T[..., None, None, None]
    train, test = (np.broadcast_to(a, (9, *SHAPE)).astype(np.uint8) for a in (train, test))
    config = small_config()
    config.data.update({"image_size": 4, "channels": 1})
    config.model.latent_dim = D
    config.metrics.inception_weights = "weights.pth"
    settings = {"num_images": COUNT, "batch_size": 500, "fid_num_images": 1100}
    config.task.generate.update(settings)
    measured = []

    def measure(config, data, images, num_images):
        measured.extend([np.concatenate(list(images)), num_images])
        return {"fid": 7.0}, {"fid_network": "a double"}

    monkeypatch.setattr(generate.fid, "measure", measure)
    with jax.enable_x64(True):
        beta = {"matrix": matrix, "bias": bias}
        model = TrainedModel(config, linear_model(D, SHAPE, 0.8), Parameters({}, beta, {}), 0)
        data = Cache(Split(train, None), Split(test, None), tmp_path)
        writer = ReportWriter(tmp_path, "generate", 0, config)
        figures = generate.run(model, data, config, writer)
        _, samples = model.sample(1100, config.seed, 500)

    assert figures.pop("time/milliseconds_per_batch") > 0
    assert (figures["num_images"], figures["num_training_images"]) == (COUNT, 9)
    assert figures["fid"] == 7
    real = train / 127.5 - 1
    assert figures["training_pixel_mean"] == pytest.approx(real.mean(), rel=1e-13)
    assert figures["training_pixel_stddev"] == pytest.approx(real.std(), rel=1e-13)

    # Means over samples, each with the standard error of COUNT of them. An image's mean is
    # a'z + mean(b) with a the mean row of A; its mean square z'Mz + 2c'z + mean(b^2).
    a, m, c = matrix.mean(axis=0), matrix.T @ matrix / 16, matrix.T @ bias / 16
    mean_square = figures["pixel_stddev"] ** 2 + figures["pixel_mean"] ** 2
    log_p_z = -D / 2 * (1 + np.log(2 * np.pi))
    for found, expected, variance in (
        (figures["pixel_mean"], bias.mean(), a @ a),
        (mean_square, np.trace(m) + np.mean(bias**2), 2 * np.trace(m @ m) + 4 * c @ c),
        (figures["mean_log_p_z"], log_p_z, D / 2),
    ):
        assert abs(found - expected) < 4 * np.sqrt(variance / COUNT)

    images, count = measured
    assert count == 1100
    assert_close(images, samples, roundings=10)  # Made in two chunks there.
