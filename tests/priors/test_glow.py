"""The flow prior against NumPy, written from a description of the authors' step, and calculus.

The reference below is the map z -> z0 alone: its log-determinant is taken numerically, so that
what is tested is that `log_prob` is the density of `sample`, not that two formulas agree.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.priors.glow import Prior
from tests.builders import invented


def numpy_inverse(alpha, z):
    """z [N, d] -> z0 [N, d]."""

    def actnorm(h, p):
        return (h + p["bias"]) * np.exp(3 * p["log_scale"])

    for i in range(len(alpha["linear"])):
        step = jax.tree.map(lambda array, i=i: array[i], alpha)
        z = actnorm(z, step["actnorm"]) @ step["linear"]
        half = z.shape[1] // 2
        first, second = z[:, :half], z[:, half:]
        net, h = step["coupling"], first
        h = np.maximum(actnorm(h @ net["Dense_0"]["kernel"], net["actnorm_0"]), 0)
        h = np.maximum(actnorm(h @ net["Dense_1"]["kernel"], net["actnorm_1"]), 0)
        h = (h @ net["Dense_2"]["kernel"] + net["Dense_2"]["bias"]) * np.exp(3 * net["log_scale"])
        shift, raw = np.split(h, 2, axis=1)
        second = (second + shift) / (1 + np.exp(-(raw + 2)))
        z = np.concatenate([first, second], axis=1)
    return z


def numpy_log_prob(alpha, z):
    """log density of z [N, d] by the change of variables, with a numerical Jacobian."""
    size, d = z.shape
    h = 1e-5
    offsets = h * np.concatenate([np.eye(d), -np.eye(d)])
    moved = numpy_inverse(alpha, (z[:, None] + offsets).reshape(-1, d)).reshape(size, 2, d, d)
    jacobian = (moved[:, 0] - moved[:, 1]) / (2 * h)
    base = scipy.stats.norm.logpdf(numpy_inverse(alpha, z)).sum(axis=1)
    return base + np.linalg.slogdet(jacobian)[1]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def make(d, **settings):
    prior = Prior(d, **{"num_steps": 3, "hidden_width": 7} | settings)
    return prior, invented(prior.init)


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


@functools.partial(jax.jit, static_argnums=0)
def log_prob(prior, alpha, z):
    """[N] of z [N, d]."""
    prepared = prior.prepare(alpha)
    return jax.vmap(lambda z: prior.log_prob(prepared, z))(z)


@functools.partial(jax.jit, static_argnums=0)
def gradients(prior, alpha, z):
    """Of the summed log-density, with respect to alpha and z."""
    return jax.grad(lambda alpha, z: jnp.sum(log_prob(prior, alpha, z)), argnums=(0, 1))(alpha, z)


@pytest.mark.parametrize("d", (2, 5))
def test_log_prob_is_the_change_of_variables(d, float64):
    prior, alpha = make(d)
    z = np.random.default_rng(0).normal(scale=1.5, size=(20, d))
    expected = numpy_log_prob(numpy_tree(alpha), z)
    np.testing.assert_allclose(log_prob(prior, alpha, z), expected, rtol=0, atol=1e-6)
    # A mirrored matrix has a negative determinant.
    alpha["linear"] = alpha["linear"].at[0, 0].multiply(-1)
    expected = numpy_log_prob(numpy_tree(alpha), z)
    np.testing.assert_allclose(log_prob(prior, alpha, z), expected, rtol=0, atol=1e-6)


def test_log_prob_in_float32():
    prior, alpha = make(5)
    z = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    got = log_prob(prior, alpha, z)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, numpy_log_prob(numpy_tree(alpha), z.astype(float)), atol=2e-2)


@pytest.mark.parametrize("d", (2, 5))
def test_sample_is_the_flow_of_a_standard_normal_draw(d, float64):
    prior, alpha = make(d)
    keys = jax.random.split(jax.random.key(1), 8)
    prepared = prior.prepare(alpha)
    z = jax.jit(jax.vmap(lambda key: prior.sample(prepared, key)))(keys)
    z0 = jax.vmap(lambda key: jax.random.normal(key, (d,)))(keys)
    np.testing.assert_allclose(numpy_inverse(numpy_tree(alpha), np.asarray(z)), z0, atol=1e-9)


def test_gradient_of_alpha_sees_the_determinant(float64):
    """Eq. 6's gradient, through `prepare`, along random directions of every parameter at once."""
    prior, alpha = make(5)
    z = np.random.default_rng(0).normal(size=(20, 5))

    @jax.jit
    def slope_along(direction):
        return jax.jvp(lambda alpha: log_prob(prior, alpha, z), (alpha,), (direction,))[1]

    for seed in range(1, 4):
        direction = jax.tree.map(lambda leaf: 0.1 * leaf, invented(prior.init, seed))
        ahead, behind = (
            numpy_tree(jax.tree.map(lambda a, v, h=h: a + h * v, alpha, direction))
            for h in (1e-3, -1e-3)
        )
        expected = (numpy_log_prob(ahead, z) - numpy_log_prob(behind, z)) / 2e-3
        np.testing.assert_allclose(slope_along(direction), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", (0.0, 1.0, 30.0))
def test_gradients_are_finite(scale):
    prior, alpha = make(5)
    z = scale * np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    for leaf in jax.tree.leaves(gradients(prior, alpha, z)):
        assert np.isfinite(leaf).all()


def test_every_parameter_matters():
    """No parameter is dead: the hidden layers' own biases, which would be, are left out."""
    prior, alpha = make(5)
    z = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    of_alpha, _ = gradients(prior, alpha, z)
    for path, leaf in jax.tree_util.tree_flatten_with_path(of_alpha)[0]:
        assert np.any(leaf != 0), jax.tree_util.keystr(path)


def test_init_is_a_rotation_and_a_coupling_that_does_not_look(float64):
    alpha = jax.jit(Prior(64, num_steps=2).init)(jax.random.key(0))
    for matrix in alpha["linear"]:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(64), atol=1e-12)
    for actnorm in (alpha["actnorm"], alpha["coupling"]["actnorm_0"]):
        for leaf in actnorm.values():
            assert np.std(leaf) == pytest.approx(0.05, rel=0.3)
    assert not np.any(alpha["coupling"]["Dense_2"]["kernel"])
    for leaf in (alpha["linear"], alpha["actnorm"]["bias"], alpha["coupling"]["Dense_0"]["kernel"]):
        assert np.all(np.asarray(leaf[0]) != np.asarray(leaf[1])), "steps share their parameters"


def test_parameter_count_of_the_paper():
    """586,240 in the paper; ours leaves out the two unused biases of every coupling."""
    prior = Prior(128, num_steps=10, hidden_width=128)
    shapes = jax.eval_shape(prior.init, jax.random.key(0))
    own = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert own == 583_680
    assert own + 10 * 2 * 128 == 586_240
    assert prior.reference_counts() == {"parameters_with_unused_biases": 586_240}


@pytest.mark.parametrize(
    ("settings", "named"),
    (
        ({"latent_dim": 1}, "latent_dim=1"),
        ({"num_steps": 0}, "prior.num_steps=0"),
        ({"hidden_width": 0}, "prior.hidden_width=0"),
    ),
)
def test_settings_that_cannot_be_built(settings, named):
    with pytest.raises(UserError, match=named):
        Prior(**{"latent_dim": 4} | settings)
