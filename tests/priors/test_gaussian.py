"""The standard normal prior against scipy."""

import jax
import numpy as np
import scipy.stats

from lfbm_jax.priors.gaussian import Prior


def test_log_prob_is_that_of_scipy():
    z = np.random.default_rng(0).normal(scale=2.0, size=(7, 5))
    expected = scipy.stats.multivariate_normal(np.zeros(5)).logpdf(z)
    prior = Prior(5)
    with jax.enable_x64(True):
        prepared = prior.prepare(prior.init(jax.random.key(0)))
        log_prob = jax.jit(jax.vmap(lambda z: prior.log_prob(prepared, z)))(z)
        np.testing.assert_allclose(log_prob, expected, rtol=1e-13)


def test_it_has_no_parameters():
    assert jax.tree.leaves(Prior(5).init(jax.random.key(0))) == []


def test_samples_are_standard_normal():
    prior = Prior(3)
    keys = jax.random.split(jax.random.key(1), 20_000)
    samples = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample({}, key)))(keys))
    for coordinate in samples.T:
        assert scipy.stats.kstest(coordinate, "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(samples.T), np.eye(3), atol=0.05)
