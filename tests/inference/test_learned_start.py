"""Chains from an encoder's draw: what teaches the encoder, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference import langevin
from lfbm_jax.inference.encoder import Inference as Encoder
from lfbm_jax.inference.learned_start import VARIANCE_FLOOR, Inference
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.tasks import posterior_gap
from lfbm_jax.trained.api import TrainedModel
from tests.builders import invented, small_config
from tests.inference.taught import (
    BETA,
    IMAGES,
    LAYERS,
    SHAPE,
    STEP,
    D,
    X,
    infer,
    law_of_chains,
    learn,
    loss_of,
    model_of,
)  # fmt: skip
from tests.rounding import assert_close


def start_of(noise=True):
    return Inference(D, 2, STEP, noise, LAYERS, image_shape=SHAPE, dtype=None)


ENCODER = Encoder(D, SHAPE, None, LAYERS)
MODEL = model_of(start_of())


@pytest.fixture(scope="module")
def learned():
    return learn(MODEL, rate=3e-2, num_steps=500)


def test_the_encoder_learns_the_mean_and_the_deviations_of_the_chains_law(learned):
    before = MODEL.inference.init(jax.random.key(0))
    for image in X:
        mean, covariance = law_of_chains(image)
        deviation = np.sqrt(np.diag(covariance))
        found, found_deviation = ENCODER.moments(learned, image)
        assert np.max(np.abs(found - mean) / deviation) < 0.25
        assert np.max(np.abs(ENCODER.moments(before, image)[0] - mean) / deviation) > 1
        np.testing.assert_allclose(found_deviation, deviation, rtol=0.2)


def test_the_task_posterior_gap_sees_the_gap_close(learned, tmp_path):
    """One step from the learned start leaves less of a gap than four from that before learning."""
    config = small_config()
    config.data.update({"image_size": 4, "channels": 1})
    config.model.latent_dim = D
    settings = {"num_images": 4, "num_steps": (1, 4), "num_chains": 300, "batch_size": 4}
    config.task.posterior_gap.update(settings | {"num_temperatures": 60, "num_annealed": 64})
    data = Cache(Split(IMAGES, None), Split(IMAGES, None), tmp_path)
    writer = ReportWriter(tmp_path, "posterior_gap", 0, config)
    point = Parameters({}, BETA, MODEL.inference.init(jax.random.key(0)))
    untaught = TrainedModel(config, MODEL, point, 0)
    taught = untaught.with_parameters(point._replace(phi=learned), 0, None)
    before, after = (
        posterior_gap.run(trained, data, config, writer) for trained in (untaught, taught)
    )
    assert after["gap_at_most_1"] < 0.3 < 0.6 < before["gap_at_least_4"]


def test_z_is_langevins_from_the_start_and_phi_gets_the_gradient_of_the_density_at_z():
    with jax.enable_x64(True):
        phi = invented(MODEL.inference.init, scale=0.4)
        key, image = jax.random.key(2), jnp.asarray(X[0], float)
        found = jax.jit(lambda phi: infer(MODEL.inference, phi, key, image))(phi)
        chain = langevin.Inference(D, 2, STEP)
        again = infer(chain, None, jax.random.split(key)[1], image, found.start)
        assert_close(found.z, again.z, roundings=100)
        assert found.log_q == 0

        def negative_log_density(phi):
            mean, deviation = ENCODER.moments(phi, image)
            variance = deviation**2 + VARIANCE_FLOOR
            squares = jnp.square(found.z - mean) / variance
            return 0.5 * jnp.sum(squares + jnp.log(2 * jnp.pi * variance))

        value, slope = jax.value_and_grad(negative_log_density)(phi)
        np.testing.assert_allclose(found.loss, value, rtol=1e-12)
        gradient = jax.jit(jax.grad(lambda phi: loss_of(MODEL, phi, key, image).value))(phi)
        assert_close(gradient, slope, roundings=1000)


def test_alpha_and_beta_learn_from_the_end_of_the_chain_alone():
    phi, key = invented(MODEL.inference.init, scale=0.4), jax.random.key(3)
    image = X[0]
    z = infer(MODEL.inference, phi, key, image).z
    gradient = jax.grad(lambda beta: loss_of(MODEL, phi, key, image, beta).value)(BETA)
    expected = jax.grad(
        lambda beta: -MODEL.log_p_x_given_z(Parameters({}, beta, None), image, z)
    )(BETA)
    assert_close(gradient, expected, roundings=1000)


def test_without_noise_the_start_is_the_mean_and_a_given_start_is_kept():
    phi, key = invented(MODEL.inference.init, scale=0.4), jax.random.key(4)
    image = X[0]
    mean, deviation = map(np.asarray, ENCODER.moments(phi, image))
    assert_close(infer(start_of(noise=False), phi, key, image).start, mean, roundings=10)
    given = jnp.array([0.5, -2.0])
    np.testing.assert_array_equal(infer(MODEL.inference, phi, key, image, given).start, given)
    keys = jax.random.split(key, 4000)
    starts = jax.jit(jax.vmap(lambda key: infer(MODEL.inference, phi, key, image).start))(keys)
    white = (np.asarray(starts) - mean) / deviation
    for entry in white.T:
        assert scipy.stats.kstest(entry, "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": ()}, r"inference\.layers is empty"),
        ({"num_steps": 0}, r"inference\.num_steps=0"),
        ({"step_size": 0.0}, r"inference\.step_size=0\.0"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(UserError, match=said):
        Inference(D, image_shape=SHAPE, dtype=None, **{"layers": LAYERS, **settings})
