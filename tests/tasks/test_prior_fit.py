"""Does the prior fit? The whole task on a model whose latents are known."""

import dataclasses

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference import base, langevin
from lfbm_jax.inference.base import Posterior
from lfbm_jax.metrics.two_samples import squared_mmd, two_sample_accuracy
from lfbm_jax.model import Parameters
from lfbm_jax.priors import mixture
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.tasks import prior_fit
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model


class Reads(base.Inference):
    """An inference double: z is the first two pixels of the image, whatever the model is."""

    def infer(self, phi, key, example, log_joint, start=None):
        z = example.image.ravel()[:2]
        return Posterior(z, 0.0 * z[0], {})


class Draws(base.Inference):
    """An inference double: z is noise, drawn from the key."""

    def infer(self, phi, key, example, log_joint, start=None):
        z = jax.random.normal(key, (2,))
        return Posterior(z, 0.0 * z[0], {})


def test_every_image_has_its_own_chain_whichever_chunk_it_is_in():
    config = small_config()
    config.data.update({"image_size": 2, "channels": 1})
    config.model.latent_dim = 2
    config.task.prior_fit.update({"num_images": 0, "batch_size": 3})
    model = linear_model(2, (2, 2, 1), 1.0, Draws(2), Draws(2))
    beta = {"matrix": np.zeros((4, 2)), "bias": np.zeros(4)}
    trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
    images = np.zeros((7, 2, 2, 1), np.uint8)
    found = prior_fit._inferred(trained, Split(images, None), config, 4)
    assert len(np.unique(found)) == 14
    np.testing.assert_array_equal(found, trained.infer(images, 4, 3, training_settings=True).z)


def test_chains_climb_the_density_of_training_if_the_prior_was_fitted_since():
    """N(0, I) then, now a Gaussian far from the origin, which gives the log p(z)."""
    config = small_config()
    config.data.update({"image_size": 2, "channels": 1})
    config.model.latent_dim = 2
    chain = langevin.Inference(2, num_steps=3, step_size=0.5, noise=False)
    model = linear_model(2, (2, 2, 1), 1.0, chain, chain)
    beta = {"matrix": np.ones((4, 2), np.float32), "bias": np.zeros(4, np.float32)}
    prior = mixture.Prior(2, num_components=1)
    alpha = prior.init(jax.random.key(0))
    alpha |= {"means": alpha["means"] + 4.0, "fitted": alpha["fitted"] + 1}
    before = TrainedModel(config, model, Parameters({}, beta, {}), 0)
    model = dataclasses.replace(model, prior=prior)
    trained = TrainedModel(config, model, Parameters(alpha, beta, {}), 0)
    images = np.zeros((3, 2, 2, 1), np.uint8)
    found = trained.infer(images, training_settings=True)
    np.testing.assert_allclose(found.z, before.infer(images).z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.log_p_z, trained.log_prior(found.z), rtol=1e-5)


def test_figures_of_the_task(tmp_path):
    """Latent vectors that are known, of an oblique distribution, far from N(0, I)."""
    random = np.random.default_rng(0)
    factor = np.array([[30.0, 0.0], [25.0, 10.0]])

    def images(count):
        pixels = np.tile(160 + random.normal(size=(count, 2)) @ factor.T, 2)
        return np.clip(pixels.round(), 0, 255).astype(np.uint8).reshape(count, 2, 2, 1)

    train, test = images(300), images(200)
    config = small_config()
    config.data.update({"image_size": 2, "channels": 1})
    config.model.latent_dim = 2
    config.task.prior_fit.update({"num_images": 0, "batch_size": 50})
    with jax.enable_x64(True):
        model = linear_model(2, (2, 2, 1), 1.0, Reads(2), Reads(2))
        beta = {"matrix": np.zeros((4, 2)), "bias": np.zeros(4)}
        trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
        writer = ReportWriter(tmp_path, "prior_fit", 0, config)
        data = Cache(Split(train, None), Split(test, None), tmp_path)
        figures = prior_fit.run(trained, data, config, writer)
        sampled, _ = trained.sample(200, config.seed)

    z_train, z_test = ((split / 127.5 - 1).reshape(-1, 4)[:, :2] for split in (train, test))
    mean, covariance = z_train.mean(axis=0), np.cov(z_train.T)

    def log_density(z, mean, covariance):
        off = z - mean
        squares = np.sum(off @ np.linalg.inv(covariance) * off, axis=1)
        return -0.5 * (squares + np.log(np.linalg.det(2 * np.pi * covariance))).mean()

    expected = {
        "num_images": 200,
        "num_training_images": 300,
        "test_log_p_z": log_density(z_test, 0, np.eye(2)),
        "gaussian_test_log_p_z": log_density(z_test, mean, covariance),
        "sampled_log_p_z": log_density(sampled, 0, np.eye(2)),
        "mmd": squared_mmd(z_test, sampled),
        "two_sample_accuracy": two_sample_accuracy(z_test, sampled, config.seed),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-12), name
    assert figures.keys() - expected.keys() == {"mmd_standard_normal"}
    normal = np.random.default_rng(1).standard_normal((2000, 2))
    assert figures["mmd_standard_normal"] == pytest.approx(squared_mmd(z_test, normal), abs=0.02)
    # The figures must detect these: neither N(0, I) nor independent coordinates would fit.
    variances = np.diag(np.diag(covariance))
    assert figures["gaussian_test_log_p_z"] > log_density(z_test, mean, variances) + 0.3
    assert figures["gaussian_test_log_p_z"] > figures["test_log_p_z"] + 1
    assert min(figures["mmd"], figures["mmd_standard_normal"]) > 0.1
    assert figures["two_sample_accuracy"] > 0.7


def test_too_few_held_out_images_are_one_line(tmp_path):
    config = small_config()
    random = np.random.default_rng(0)
    train, test = (Split(random.integers(0, 256, (n, 2, 2, 1), np.uint8), None) for n in (40, 10))
    with pytest.raises(UserError, match="task prior_fit needs 11 held-out images, there are 10"):
        prior_fit.check_data(Cache(train, test, tmp_path), config)


def test_too_few_images_are_refused_before_training():
    """As many latent vectors as dimensions have a singular covariance; 0 means all."""
    config = small_config()
    for num_images in (0, 6):
        config.task.prior_fit.num_images = num_images
        prior_fit.check(config)
    config.task.prior_fit.num_images = 5
    with pytest.raises(UserError, match=r"task\.prior_fit\.num_images: .* more than 5 training"):
        prior_fit.check(config)
