"""The energy-based prior: its count, its gradient, its chain and its spectral norm."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.priors.energy import Prior
from tests.builders import invented


def test_count_of_the_paper():
    prior = Prior(128, hidden_width=1000)
    shapes = jax.eval_shape(prior.init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 1_131_001


def test_without_energy_the_chain_keeps_its_stationary_variance():
    """From N(0, I), the steps z (1 - s^2 / 2) + s noise end at variance 1 / (1 - s^2 / 4)."""
    prior = Prior(3, hidden_width=2, num_steps=60, step_size=0.8)
    alpha = jax.tree.map(jnp.zeros_like, prior.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), 20_000)
    z = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(alpha, key)))(keys))
    variance = 1 / (1 - 0.8**2 / 4)
    error = 5 * math.sqrt(2 / z.size) * variance
    assert np.var(z) == pytest.approx(variance, abs=error)
    assert abs(np.var(z) - 1) > 2 * error


def test_energy_draws_the_chain_to_where_it_is_high():
    """f(z) = c z_0 is linear: exp(f) N is N(c e_0, I)."""
    prior = Prior(2, num_layers=1, num_steps=200, step_size=0.3)
    alpha = {"layer_0": {"kernel": jnp.array([[1.5], [0.0]]), "bias": jnp.zeros(1)}}
    keys = jax.random.split(jax.random.key(1), 20_000)
    z = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(alpha, key)))(keys))
    np.testing.assert_allclose(z.mean(axis=0), [1.5, 0.0], atol=0.04)


def test_gradient_of_the_loss_is_that_at_the_draw_minus_that_at_the_data():
    with jax.enable_x64(True):
        prior = Prior(4, hidden_width=5, num_steps=3)
        alpha, key = invented(prior.init), jax.random.key(2)
        z = jnp.asarray(np.random.default_rng(0).normal(size=4))
        found = jax.jit(jax.grad(prior.loss))(alpha, key, z)

        def f(alpha, z):
            hidden = z
            for name, slope in (("layer_0", 0.2), ("layer_1", 0.2), ("layer_2", 1.0)):
                hidden = hidden @ alpha[name]["kernel"] + alpha[name]["bias"]
                hidden = jnp.maximum(hidden, slope * hidden)
            return hidden[0]

        negative = prior.sample(alpha, key)
        at_data, at_draw = jax.grad(f)(alpha, z), jax.grad(f)(alpha, negative)
        expected = jax.tree.map(lambda draw, data: draw - data, at_draw, at_data)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_mean_gradient_of_the_loss_against_quadrature():
    """In one dimension: E_p[df/dalpha] - df/dalpha at the data, p(z) integrated on a fine grid."""
    prior = Prior(1, hidden_width=4, num_steps=300, step_size=0.2)
    alpha = invented(prior.init, seed=1, scale=0.9)
    z = jnp.array([0.4])

    def of_loss(key):
        return jax.grad(prior.loss)(alpha, key, z)

    def of_f(z):  # log_prob is f and a constant in alpha
        return jax.grad(prior.log_prob)(alpha, z)

    def flat(tree):
        return np.concatenate([np.reshape(g, (len(g), -1)) for g in jax.tree.leaves(tree)], 1)

    grid = jnp.linspace(-9, 9, 4001)[:, None]
    density = np.exp(np.asarray(jax.vmap(lambda z: prior.log_prob(alpha, z))(grid), np.float64))
    slopes = flat(jax.vmap(of_f)(grid))
    expected = density @ slopes / density.sum() - flat(jax.vmap(of_f)(z[None]))[0]
    normal = np.exp(-0.5 * np.asarray(grid)[:, 0] ** 2)
    of_normal = normal @ slopes / normal.sum() - flat(jax.vmap(of_f)(z[None]))[0]
    keys = jax.random.split(jax.random.key(1), 5_000)
    found = flat(jax.jit(jax.vmap(of_loss))(keys)).mean(axis=0)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.04
    assert np.linalg.norm(of_normal - expected) > 0.4 * np.linalg.norm(expected), "f does nothing"


def test_spectral_norm_makes_every_matrix_of_norm_one():
    prior = Prior(4, hidden_width=5, spectral_norm=True)
    alpha = invented(prior.init, scale=3.0)
    for layer in prior.prepare(alpha).values():
        singular = np.linalg.svd(layer["kernel"], compute_uv=False)
        assert singular[0] == pytest.approx(1, rel=1e-5)
    assert prior.prepare(alpha)["layer_1"]["bias"] is alpha["layer_1"]["bias"]


@pytest.mark.parametrize("settings", [{"num_layers": 0}, {"num_steps": 0}, {"step_size": 0.0}])
def test_bad_settings(settings):
    with pytest.raises(UserError, match=f"prior.{next(iter(settings))}"):
        Prior(4, **settings)


def test_initialisation_is_pytorchs_of_a_linear_layer():
    """U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), biases too, by range and variance."""
    alpha = Prior(100, hidden_width=400).init(jax.random.key(0))
    for name, fan_in in (("layer_0", 100), ("layer_1", 400), ("layer_2", 400)):
        bound = 1 / math.sqrt(fan_in)
        for values in (alpha[name]["kernel"], alpha[name]["bias"]):
            assert np.abs(values).max() <= bound
            if values.size >= 400:
                assert np.abs(values).max() > 0.98 * bound
                # The variance of x^2 is 4/45 of the bound's fourth power.
                error = 5 * math.sqrt(4 / 45 / values.size) * bound**2
                assert np.mean(np.square(values)) == pytest.approx(bound**2 / 3, abs=error)
    assert np.any(alpha["layer_2"]["bias"] != 0)


def test_gelu_is_the_exact_one():
    with jax.enable_x64(True):
        prior = Prior(1, hidden_width=1, num_layers=2, activation="gelu")
        layer = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
        for z in (-1.3, 0.4, 2.0):
            found = prior.log_prob({"layer_0": layer, "layer_1": layer}, jnp.array([z]))
            f = z * 0.5 * (1 + math.erf(z / math.sqrt(2)))
            expected = f - z**2 / 2 - math.log(2 * math.pi) / 2
            assert found == pytest.approx(expected, rel=1e-14)


def test_an_unknown_activation_has_a_near_match():
    with pytest.raises(UserError, match=r"^prior\.activation='gulu': did you mean 'gelu'"):
        Prior(2, activation="gulu")
