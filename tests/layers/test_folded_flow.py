"""The folded density of every flow is that of its bijectors, one after another."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.layers import folded_flow
from tests.builders import invented
from tests.rounding import assert_close


def unfolded_log_prob(prior, alpha, z):
    """Eq. 5 by the change of variables, with the bijectors' z0 and log-determinants."""
    z0, log_det = prior._inverse_and_log_det(prior.prepare(alpha), z)
    return jnp.sum(jax.scipy.stats.norm.logpdf(z0)) + log_det


def folded_log_prob(prior, alpha, z):
    return prior.log_prob(prior.prepare(alpha), z)


@functools.partial(jax.jit, static_argnums=(0, 1))
def values_and_gradients(log_prob, prior, alpha, z):
    """[N] log-densities and the gradients of their weighted sum in alpha and z [N, d]."""
    weights = jnp.linspace(0.5, 1.5, len(z))

    def total(alpha, z):
        values = jax.vmap(lambda z: log_prob(prior, alpha, z))(z)
        return jnp.sum(weights * values), values

    (_, values), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(alpha, z)
    return values, gradients


@pytest.mark.parametrize("d", (2, 5, 35))  # Halves of 1; 2 and 3; 17 and 18, padded to 32.
@pytest.mark.parametrize("name", ("glow", "realnvp", "nice"))
def test_folded_is_unfolded(name, d):
    """In values and gradients, in float64, where every parameter is far from its start."""
    with jax.enable_x64(True):
        module = importlib.import_module(f"lfbm_jax.priors.{name}")
        prior = module.Prior(d, num_steps=3, hidden_width=7)
        alpha = invented(prior.init)
        z = jnp.asarray(np.random.default_rng(0).normal(size=(6, d)))
        folded, unfolded = (
            values_and_gradients(log_prob, prior, alpha, z)
            for log_prob in (folded_log_prob, unfolded_log_prob)
        )
        assert np.std(folded[0]) > 0.1
        for leaf in jax.tree.leaves(folded):
            assert np.any(leaf)
        assert_close(folded, unfolded, roundings=2000)


def test_a_step_is_three_products():
    """d = 100, width 64: halves of 50 padded to 64, and the first hidden layer beside A."""
    from lfbm_jax.priors.glow import Prior

    prior = Prior(100)
    folded = jax.eval_shape(lambda key: prior.prepare(prior.init(key)), jax.random.key(0))["folded"]
    shapes = {name: array.shape for name, array in folded[0].items()}
    assert len(folded) == 5
    assert shapes == {
        "kernel_1": (128, 64 + 128),
        "bias_1": (64 + 128,),
        "kernel_2": (64, 64),
        "bias_2": (64,),
        "kernel_3": (64, 128),
        "bias_3": (128,),
    }


def test_padding_stays_zero():
    """z0 comes back with its halves in place, and zeros between and after them."""
    from lfbm_jax.priors.glow import Prior

    prior = Prior(35, num_steps=2, hidden_width=7)
    prepared = jax.jit(prior.prepare)(invented(prior.init))
    z = np.random.default_rng(0).normal(size=35).astype(np.float32)
    z0, _ = folded_flow.inverse_and_log_det(prepared["folded"], prior._log_scale, z)
    expected = prior.inverse(prepared, z)
    assert z0.shape == (64,)
    np.testing.assert_allclose(np.r_[z0[:17], z0[32:50]], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.r_[z0[17:32], z0[50:]], 0)
