"""The diffusion prior: what it is before it learns, and what it learns from a known law."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.priors.diffusion import Prior
from tests.builders import invented
from tests.rounding import assert_close


def normal(z, mean=0.0, deviation=1.0):
    return jnp.sum(jax.scipy.stats.norm.logpdf(z, mean, deviation))


def test_before_it_learns_it_is_standard_normal():
    """log_prob and its slope are those of N(0, I), but for the blur, and draws come from it."""
    prior = Prior(3, hidden_width=8, num_layers=1)
    alpha = jax.jit(prior.init)(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (4, 3))
    found = jax.jit(jax.vmap(jax.value_and_grad(lambda z: prior.log_prob(alpha, z))))(z)
    np.testing.assert_allclose(found[0], jax.vmap(normal)(z), atol=0.03)
    np.testing.assert_allclose(found[1], -(1 - prior.blur**2) * z, rtol=1e-5)
    keys = jax.random.split(jax.random.key(2), 4000)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(alpha, key)))(keys))
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(draws.T), np.eye(3), atol=0.08)


@pytest.mark.parametrize("blur", (0.0, 0.007, 0.998))
def test_the_score_is_read_only_where_it_is_learned(blur):
    with pytest.raises(UserError, match=rf"prior\.blur={blur}: must be from 0\.0074 to 0\.997"):
        Prior(3, blur=blur)


def test_the_loss_draws_z_up_the_log_density():
    """An encoder's z gets the gradient of -log p, and none through the predicted noise."""
    prior = Prior(3, hidden_width=8, num_layers=1)
    alpha, z, key = invented(prior.init), jnp.array([0.3, -1.2, 0.8]), jax.random.key(1)
    of_loss = jax.jit(jax.grad(prior.loss, argnums=2))(alpha, key, z)
    of_density = jax.jit(jax.grad(prior.log_prob, argnums=1))(alpha, z)
    assert_close(of_loss, -of_density, roundings=10)
    assert np.abs(of_density).min() > 0.01


def test_it_learns_the_law_and_the_score_of_two_separate_clusters():
    """N(-1.5 or 1.5, 0.3^2) in one dimension of two, against the density of the blurred mixture."""
    prior = Prior(2, hidden_width=32, num_layers=3, num_draws=8)
    centres, deviation = np.array([[-1.5, 0.0], [1.5, 0.0]]), 0.3
    random = np.random.default_rng(0)
    z = centres[random.integers(2, size=(600, 64))] + deviation * random.normal(size=(600, 64, 2))
    rates = optax.cosine_decay_schedule(1e-2, len(z))
    adam = optax.adam(rates)

    def mean_loss(alpha, key, batch):
        return jnp.mean(jax.vmap(lambda k, z: prior.loss(alpha, k, z))(
            jax.random.split(key, len(batch)), batch))  # fmt: skip

    def step(carry, inputs):
        alpha, moments = carry
        updates, moments = adam.update(jax.grad(mean_loss)(alpha, *inputs), moments)
        return (optax.apply_updates(alpha, updates), moments), None

    alpha = prior.init(jax.random.key(0))
    batches = jax.random.split(jax.random.key(1), len(z)), jnp.asarray(z, jnp.float32)
    (alpha, _), _ = jax.jit(lambda a: jax.lax.scan(step, (a, adam.init(a)), batches))(alpha)

    keys = jax.random.split(jax.random.key(2), 4000)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(alpha, key)))(keys))
    right = draws[:, 0] > 0
    assert abs(right.mean() - 0.5) < 0.06
    for side, centre in ((right, 1.5), (~right, -1.5)):
        np.testing.assert_allclose(draws[side].mean(axis=0), [centre, 0], atol=0.06)
        np.testing.assert_allclose(draws[side].std(axis=0), deviation, atol=0.06)

    signal = np.sqrt(1 - prior.blur**2)
    blurred = np.hypot(signal * deviation, prior.blur)

    def log_density(z):
        terms = [normal(signal * z, signal * centre, blurred) for centre in centres]
        return jax.nn.logsumexp(jnp.array(terms)) - np.log(2)

    @jax.jit
    @jax.vmap
    def compared(z):
        pairs = (log_density, lambda z: prior.log_prob(alpha, z))
        return [jax.value_and_grad(density)(z) for density in pairs]

    (exact, slope), (bound, score) = compared(jnp.asarray(z[0, :50], jnp.float32))
    assert jnp.mean((score - slope) ** 2) < 0.05 * jnp.mean(slope**2)
    assert -0.05 < jnp.mean(exact - bound) < 0.3
