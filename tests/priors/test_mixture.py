"""The mixture that is fitted after training: its density, its draws and the fit."""

import jax
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.priors import mixture
from tests.builders import perturbed


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_mixture_has_the_density_it_samples_from():
    prior = mixture.Prior(2, 3)
    alpha = perturbed(prior.init(jax.random.key(0)), scale=0.4) | {"fitted": np.ones(())}
    alpha = prior.prepare(alpha)
    z = np.random.default_rng(0).normal(size=(5, 2))
    found = jax.jit(jax.vmap(prior.log_prob, (None, 0)))(alpha, z)
    components = [
        scipy.stats.multivariate_normal(mean, factor @ factor.T)
        for mean, factor in zip(alpha["means"], np.asarray(alpha["factors"]), strict=True)
    ]
    weights = np.exp(alpha["log_weights"])
    expected = sum(w * c.pdf(z) for w, c in zip(weights, components, strict=True))
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-9)
    keys = jax.random.split(jax.random.key(1), 20_000)
    draws = jax.jit(jax.vmap(prior.sample, (None, 0)))(alpha, keys)
    mean = weights @ alpha["means"]
    second = sum(
        w * (f @ f.T + np.outer(m, m))
        for w, f, m in zip(weights, alpha["factors"], alpha["means"], strict=True)
    )
    np.testing.assert_allclose(np.mean(draws, axis=0), mean, atol=0.03)
    np.testing.assert_allclose(draws.T @ draws / len(draws), second, atol=0.06)


def test_mixture_is_the_standard_normal_before_it_is_fitted_and_the_data_after():
    prior = mixture.Prior(2, 2)
    alpha = prior.init(jax.random.key(0))
    z = np.array([0.3, -2.0])
    expected = scipy.stats.norm.logpdf(z).sum()
    assert prior.log_prob(alpha, z) == pytest.approx(expected)
    slopes = jax.grad(lambda alpha: prior.log_prob(prior.prepare(alpha), z))(alpha)
    assert all(np.all(slope == 0) for slope in jax.tree.leaves(slopes))
    random = np.random.default_rng(0)
    near, far = random.normal(size=(300, 2)), random.normal(size=(100, 2)) * 0.5 + 8
    z_of_all = np.concatenate([near, far]).astype(np.float32)
    assert not prior.is_fitted(alpha)
    fitted = prior.fit(alpha, lambda epoch: z_of_all, seed=0)
    assert prior.is_fitted(fitted)
    going_on = prior.unfitted(fitted)
    assert prior.log_prob(prior.prepare(going_on), z) == pytest.approx(expected)
    order = np.argsort(fitted["means"][:, 0])
    np.testing.assert_allclose(np.exp(fitted["log_weights"])[order], [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(fitted["means"][order], [[0, 0], [8, 8]], atol=0.2)
    np.testing.assert_allclose(fitted["factors"][order[1]], 0.5 * np.eye(2), atol=0.15)
