"""Annealed importance sampling against the closed form of a linear-Gaussian model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.metrics.annealed_importance import anneal, log_evidence
from lfbm_jax.model import Parameters
from tests.linear_gaussian import linear_model, posterior

SIGMA, SHAPE, D = 0.3, (2, 3, 1), 3


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_log_evidence_and_ends_are_those_of_a_linear_gaussian_model():
    model = linear_model(D, SHAPE, SIGMA)
    random = np.random.default_rng(0)
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    x = random.normal(size=(2, *SHAPE))
    constant = 7.0  # Like an energy prior's missing log Z, it must remain in the result.

    @jax.jit
    def run(beta, x):
        log_joint = model.log_joint(Parameters({}, beta, {}), x)
        key = jax.random.key(3)
        return anneal(lambda z: sum(log_joint(z)) + constant, key, D, 200, 150)

    found = jax.vmap(run, in_axes=(None, 0))(beta, x)
    evidence, effective = log_evidence(np.asarray(found.increments))
    covariance = beta["matrix"] @ beta["matrix"].T + SIGMA**2 * np.eye(6)
    exact = scipy.stats.multivariate_normal(beta["bias"], covariance).logpdf(x.reshape(2, 6))
    np.testing.assert_allclose(evidence - constant, exact, atol=0.1)
    assert np.all(effective > 0.5) and np.all(found.acceptance > 0.6)
    for image, z in zip(x, np.asarray(found.z), strict=True):
        mean, precision = posterior(beta, SIGMA, image)
        white = np.linalg.cholesky(precision).T @ (z - mean).T
        np.testing.assert_allclose(white.mean(axis=1), 0, atol=4 / np.sqrt(200))
        np.testing.assert_allclose(np.cov(white), np.eye(D), atol=0.5)


def test_the_step_sizes_do_not_depend_on_the_draws_they_are_used_for():
    """So a chain is the same whichever other chains run beside it, and weights stay unbiased."""

    def log_joint(z):
        return -jnp.sum(jnp.square(3 * z - 1))

    few, more = (anneal(log_joint, jax.random.key(0), D, count, 40) for count in (3, 5))
    np.testing.assert_allclose(few.z, more.z[:3], rtol=1e-12)
    np.testing.assert_allclose(few.increments, more.increments[:, :3], rtol=1e-12)


def test_weights_are_added_up_in_float64():
    """100 nats and 10^5 increments of 10^-6: float32 would lose every one of them."""
    increments = np.full((100_001, 4), 1e-6, np.float32)
    increments[0] = 100
    evidence, effective = log_evidence(increments)
    assert evidence == pytest.approx(100.1, abs=1e-5)
    assert effective == pytest.approx(1)


def test_one_chain_of_great_weight_is_one_effective_chain():
    evidence, effective = log_evidence(jnp.array([[-50.0, 800.0, -50.0, -50.0]]))
    assert evidence == pytest.approx(800 - np.log(4))
    assert effective == pytest.approx(0.25)
