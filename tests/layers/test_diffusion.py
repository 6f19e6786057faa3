"""Diffusion of a vector: the schedule, the loss, and draws by a network that is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.layers import diffusion
from lfbm_jax.layers.denoiser import Denoiser, flops
from tests.builders import invented

MEAN = jnp.array([1.5, -0.5])


def of_gaussian(deviation):
    """E[e | z_lambda] for z ~ N(MEAN, deviation^2 I): s (z_lambda - a MEAN) / var(z_lambda)."""

    def predict(z, level):
        signal, noise = jax.nn.sigmoid(level), jax.nn.sigmoid(-level)
        variance = signal * deviation**2 + noise
        return jnp.sqrt(noise) * (z - jnp.sqrt(signal) * MEAN) / variance

    return predict


def test_the_schedule_runs_between_its_ends_and_is_a_shifted_cosine():
    """a(t) = cos(b + (e - b) t) falls; lambda = log(a^2 / s^2)."""
    t = jnp.linspace(0, 1, 9)
    levels = diffusion.log_snr(t)
    np.testing.assert_allclose(levels[np.array([0, -1])], [9.8, -5.1], rtol=1e-4)
    angle = np.arccos(np.sqrt(jax.nn.sigmoid(levels)))
    np.testing.assert_allclose(np.diff(angle, 2), 0, atol=1e-5)
    assert np.all(np.diff(levels) < 0)


@pytest.mark.parametrize("deviation", [0.05, 0.6])
def test_draws_by_the_exact_network_have_the_law_that_was_diffused(deviation):
    """Within 4 % of the deviation in ten steps; a solver of order one would be off by 19 %.

    The start from N(0, I) lacks the signal that is left at the most noise, a MEAN.
    """
    keys = jax.random.split(jax.random.key(0), 20_000)

    def draw(key):
        return diffusion.sample(of_gaussian(deviation), key, 2, 10)

    found = np.asarray(jax.jit(jax.vmap(draw))(keys))
    left = np.asarray(MEAN) * np.sqrt(jax.nn.sigmoid(diffusion.MOST_NOISE))
    np.testing.assert_allclose(found.mean(axis=0), MEAN - deviation * left, atol=0.04 * deviation)
    np.testing.assert_allclose(found.std(axis=0), deviation, rtol=0.05)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.04


@pytest.mark.parametrize("least_noise", [5.0, 9.0])
def test_the_bound_is_tight_for_the_exact_network(least_noise):
    """At every z: only reading z off the last z_lambda costs something, less with less noise."""
    z = jnp.asarray([[1.5, -0.5], [0.3, 0.4], [2.5, -1.5]])
    for deviation in (0.6, 1.3):
        bound = jax.jit(jax.vmap(lambda z, d=deviation: diffusion.bound(
            of_gaussian(d), z, jnp.float32(least_noise))))  # fmt: skip
        exact = jax.scipy.stats.norm.logpdf(z - MEAN[None], scale=deviation).sum(axis=1)
        np.testing.assert_allclose(bound(z), exact, atol=0.05)


def test_the_bound_counts_what_is_left_of_z_at_the_most_noise():
    """0.7 nats of so far a z."""
    z, deviation = jnp.asarray([9.0, -12.0]), 1.3
    found = jax.jit(lambda z: diffusion.bound(of_gaussian(deviation), z, jnp.float32(9.0)))(z)
    exact = jax.scipy.stats.norm.logpdf(z - MEAN, scale=deviation).sum()
    assert float(found) == pytest.approx(float(exact), abs=0.3)


def test_the_loss_is_least_for_the_exact_network():
    """There it is half the variance of e given z_lambda, a^2 v / (a^2 v + s^2) per entry."""
    deviation = 0.6
    keys = jax.random.split(jax.random.key(1), 20_000)

    def loss(scale):
        exact = of_gaussian(deviation)

        def one(key):
            z_key, loss_key = jax.random.split(key)
            z = MEAN + deviation * jax.random.normal(z_key, (2,))
            return diffusion.loss(lambda z, level: scale * exact(z, level), loss_key, z)

        return np.asarray(jax.jit(jax.vmap(one))(keys))

    levels = np.asarray(diffusion.log_snr(jnp.linspace(0, 1, 2001)))
    signal = deviation**2 / (1 + np.exp(-levels))
    expected = np.mean(signal / (signal + 1 / (1 + np.exp(levels))))
    found = loss(1.0)
    assert found.mean() == pytest.approx(expected, abs=5 * found.std() / np.sqrt(len(found)))
    assert min(loss(0.9).mean(), loss(1.1).mean()) > found.mean()


def test_the_network_predicts_its_input_at_first_and_sees_all_it_is_given():
    network, z, given = Denoiser(8, 2), jnp.array([0.3, -1.0, 2.0]), jnp.linspace(-1, 1, 4)
    first = network.init(jax.random.key(0), z, jnp.zeros(()), given)
    np.testing.assert_array_equal(network.apply(first, z, jnp.ones(()), given), z)
    perturbed = invented(lambda key: network.init(key, z, jnp.zeros(()), given), scale=0.5)
    plain = network.apply(perturbed, z, jnp.ones(()), given)
    for other in ((z + 0.1, 1.0, given), (z, 2.0, given), (z, 1.0, given + 0.1)):
        moved = network.apply(perturbed, other[0], jnp.asarray(other[1]), other[2])
        assert np.max(np.abs(moved - plain - (other[0] - z))) > 1e-4


def test_operations_count_every_kernel():
    network = Denoiser(8, 2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(3), 0.0, jnp.zeros(4))
    kernels = [leaf.size for leaf in jax.tree.leaves(shapes) if leaf.ndim == 2]
    assert flops(network, 3, 4) == 2 * sum(kernels)
