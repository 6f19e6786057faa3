"""The spline flow: its start, its tails, its density and both directions, at knots and beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.priors.spline import Prior
from tests.builders import invented

BOUND = 2.0


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def bent(prior):
    """Prepared parameters whose splines are far from the identity."""
    couplings = invented(prior.init, scale=0.2)["coupling"]
    return prior.prepare(invented(prior.init, scale=0.1) | {"coupling": couplings})


def one_coupling(prior):
    """The function z [d] -> z' [d] of a coupling far from the identity."""
    network = jax.tree.map(lambda leaf: leaf[0], invented(prior.init, scale=0.3)["coupling"])
    return jax.jit(jax.vmap(prior._spline_coupling(network).inverse))


def test_it_starts_as_the_standard_normal():
    prior = Prior(5, num_steps=3, hidden_width=6)
    prepared = prior.prepare(prior.init(jax.random.key(0)))
    z = 3 * np.random.default_rng(0).normal(size=5)
    expected = scipy.stats.norm.logpdf(z).sum()
    np.testing.assert_allclose(prior.log_prob(prepared, z), expected, rtol=1e-12)
    np.testing.assert_allclose(np.sort(prior.inverse(prepared, z)), np.sort(z), rtol=1e-12)


def test_the_density_integrates_to_one():
    prior = Prior(2, num_steps=3, hidden_width=6, num_bins=5, bound=BOUND)
    prepared = bent(prior)
    axis = np.linspace(-15, 15, 1501)
    log_prob = jax.jit(jax.vmap(lambda z: prior.log_prob(prepared, z)))
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(log_prob(grid))
    mass = density.sum() * (axis[1] - axis[0]) ** 2
    assert mass == pytest.approx(1, abs=2e-4)
    # The Gaussian with its mean and covariance is far from it.
    mean = density @ grid / density.sum()
    covariance = (grid - mean).T * density @ (grid - mean) / density.sum()
    normal = scipy.stats.multivariate_normal(mean, covariance).pdf(grid)
    assert np.abs(density - normal).sum() > 0.2 * density.sum()


@pytest.mark.parametrize("d", (2, 5))
def test_round_trips_and_the_determinant_of_the_jacobian(d):
    """At points within the bins and beyond them; the determinant without distrax's own sum."""
    prior = Prior(d, num_steps=3, hidden_width=6, num_bins=4, bound=BOUND)
    prepared = bent(prior)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(8, d)) * 2)

    @jax.jit
    @jax.vmap
    def evaluate(z):
        z0 = prior.inverse(prepared, z)
        jacobian = jax.jacfwd(lambda z: prior.inverse(prepared, z))(z)
        log_prob = jnp.sum(jax.scipy.stats.norm.logpdf(z0)) + jnp.linalg.slogdet(jacobian)[1]
        back = prior.forward(prepared, z0)
        there = prior.inverse(prepared, prior.forward(prepared, z))
        return log_prob, prior.log_prob(prepared, z), back, there

    expected, found, back, there = evaluate(z)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    np.testing.assert_allclose(back, z, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(there, z, rtol=1e-8, atol=1e-8)


def test_a_coupling_moves_only_the_second_half_inside_the_bound_by_rising_splines():
    prior = Prior(5, hidden_width=6, num_bins=4, bound=BOUND)
    couple = one_coupling(prior)
    first = np.array([0.4, -1.2])
    inside = np.linspace(-BOUND, BOUND, 400)
    z = np.stack([np.r_[first, [y] * 3] for y in inside])
    moved = np.asarray(couple(z))
    np.testing.assert_array_equal(moved[:, :2], z[:, :2])
    assert np.all(np.diff(moved[:, 2:], axis=0) > 0)
    assert np.all(np.max(np.abs(moved - z), axis=0)[2:] > 0.02)
    np.testing.assert_allclose(moved[[0, -1]], z[[0, -1]], atol=1e-12)
    outside = np.array([np.r_[first, [y] * 3] for y in (-9.0, -2.01, 2.01, 9.0)])
    np.testing.assert_allclose(couple(outside), outside, rtol=1e-12)
    # The derivative is 1 at the bound, as it is outside.
    ends = np.array([np.r_[first, [y] * 3] for y in (BOUND - 1e-8, BOUND)])
    slopes = np.diff(couple(ends), axis=0)[0, 2:] / 1e-8
    np.testing.assert_allclose(slopes, 1, rtol=0.05)


def test_a_coupling_has_the_published_splines():
    """Eq. 4 of Durkan et al. (2019) in NumPy, from the raw outputs of the network."""
    bins, bound = 3, 2.0
    prior = Prior(2, hidden_width=6, num_bins=bins, bound=bound)
    network = jax.tree.map(lambda leaf: leaf[0], invented(prior.init, scale=0.3)["coupling"])
    z = np.array([0.7, 0.55])
    raw = np.asarray(prior._conditioner().apply({"params": network}, z[:1])) / np.sqrt(6)

    def knots(sizes):
        shares = np.exp(sizes) / np.exp(sizes).sum()
        return np.r_[-bound, np.cumsum(2 * bound * shares) - bound]

    y, v = knots(raw[:bins]), knots(raw[bins : 2 * bins])
    # Shifted, so that the network's zero is the slope 1.
    slopes = np.r_[1, np.log1p(np.exp(raw[2 * bins :] + np.log(np.e - 1))), 1]
    k = np.searchsorted(y, z[1]) - 1
    t, mean = (z[1] - y[k]) / (y[k + 1] - y[k]), (v[k + 1] - v[k]) / (y[k + 1] - y[k])
    upper = mean * t**2 + slopes[k] * t * (1 - t)
    lower = mean + (slopes[k + 1] + slopes[k] - 2 * mean) * t * (1 - t)
    expected = v[k] + (v[k + 1] - v[k]) * upper / lower
    found = prior._spline_coupling(network).inverse(z)
    # Bins and slopes have a least size, which the equation does not state.
    np.testing.assert_allclose(found, [0.7, expected], rtol=3e-3)


def test_every_output_learns_and_gradients_are_finite_everywhere():
    """In float32, at knots, at the bound and far outside, where a Langevin chain may start."""
    with jax.enable_x64(False):
        prior = Prior(4, num_steps=2, hidden_width=6, num_bins=4, bound=BOUND)
        z = np.array([[0, 0, 0, 0], [BOUND] * 4, [-BOUND] * 4, [50.0] * 4, [0.3, -1, 1.1, 0.2]])

        def total(alpha, z):
            prepared = prior.prepare(alpha)
            return jnp.sum(jax.vmap(lambda z: prior.log_prob(prepared, z))(z))

        gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
        for alpha in (prior.init(jax.random.key(0)), invented(prior.init)):
            found = gradient(alpha, jnp.float32(z))
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        draws = np.random.default_rng(0).normal(size=(200, 4))
        outputs = gradient(alpha, jnp.float32(draws))[0]["coupling"]["Dense_2"]["bias"]
        assert np.all(outputs != 0), "outputs of the network that nothing reads"


@pytest.mark.parametrize(
    ("settings", "named"),
    (
        ({"latent_dim": 1}, "latent_dim=1"),
        ({"num_steps": 0}, "prior.num_steps=0"),
        ({"num_bins": 1}, "prior.num_bins=1: must be from 2 to 3000"),
        ({"bound": 0.0}, "prior.bound=0.0: must be positive"),
    ),
)
def test_settings_that_cannot_be_built(settings, named):
    with pytest.raises(UserError, match=named):
        Prior(**{"latent_dim": 4} | settings)
