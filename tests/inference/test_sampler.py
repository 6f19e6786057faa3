"""BlackJAX's chains reach the exact posterior of a linear generator, and adapt as documented."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import sampler
from lfbm_jax.inference.sampler import Inference
from lfbm_jax.model import Parameters
from tests.linear_gaussian import linear_model, posterior

D, SIGMA, CHAINS = 3, 0.8, 400
MODEL = linear_model(D, (2, 2, 1), SIGMA)
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(4, D)), "bias": RANDOM.normal(size=4)}
X = RANDOM.normal(size=(2, 2, 1))
# Transitions after the adaptation, enough for a few independent draws per chain.
NUM_STEPS = {"mala": 200, "hmc": 40, "nuts": 40, "mclmc": 300}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def log_joint(z):
    return MODEL.log_joint(Parameters({}, BETA, {}), X)(z)


def chains(kernel):
    """`CHAINS` chains of one image with keys of their own."""
    part = Inference(D, kernel=kernel, num_warmup=150, num_steps=NUM_STEPS[kernel], num_leapfrog=4)

    def one(key):
        start_key, key = jax.random.split(key)
        return sampler.run(part, key, log_joint, jax.random.normal(start_key, (D,)))

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), CHAINS)))


def within_error(averages, expected, bias=0.0):
    """Whether chains' own averages, [CHAINS, ...], agree with `expected` as their spread says."""
    error = averages.std(axis=0, ddof=1) / np.sqrt(len(averages))
    assert np.max(error) < 0.05, "too few draws to tell"
    np.testing.assert_array_less(np.abs(averages.mean(axis=0) - expected), 4.5 * error + bias)


@pytest.mark.parametrize("kernel", NUM_STEPS)
def test_long_chains_have_the_exact_posterior_and_adapt_to_their_targets(kernel):
    """In coordinates in which the posterior is N(0, I). Only mclmc may have a bias, of 0.05."""
    found = chains(kernel)
    mean, precision = posterior(BETA, SIGMA, X)
    white = (found.z - mean) @ np.linalg.cholesky(precision)
    bias = 0.05 if kernel == "mclmc" else 0.0
    within_error(white.mean(axis=1), 0, bias)
    within_error(np.einsum("cki,ckj->cij", white, white) / white.shape[1], np.eye(D), bias)
    assert np.all(found.step_size > 0) and np.std(found.step_size) > 0, "each chain has its own"
    quality = found.quality["acceptance"]
    if kernel == "mclmc":
        assert np.all(quality == 1)
        assert 5e-5 < found.quality["energy_error"].mean() < 5e-3  # aims at 5e-4
    else:
        assert quality.min() >= 0 and quality.max() <= 1 + 1e-9
        # The windows of hmc and nuts leave few transitions to the last step size, which stays low.
        highest = {"mala": 0.7, "hmc": 0.98, "nuts": 0.98}[kernel]
        assert sampler.TARGET_ACCEPTANCE[kernel] - 0.1 < quality.mean() < highest
    if kernel == "mala":
        _check_metropolis(found)


def _check_metropolis(found):
    """Accepted steps have the probability that detailed balance asks of Eq. 8's proposals."""
    value_and_slope = jax.vmap(jax.vmap(jax.value_and_grad(lambda z: sum(log_joint(z)))))
    values, slopes = jax.jit(value_and_slope)(found.z)
    s = found.step_size[:, None]

    def log_proposal(start, end):  # up to a constant
        z, slope = found.z[:, start], slopes[:, start]
        error = found.z[:, end] - z - s[..., None] ** 2 / 2 * slope
        return -np.sum(error**2, axis=-1) / (2 * s**2)

    before, after = slice(None, -1), slice(1, None)
    log_ratio = values[:, after] - values[:, before]
    log_ratio += log_proposal(after, before) - log_proposal(before, after)
    moved = np.any(found.z[:, after] != found.z[:, before], axis=-1)
    assert 0.4 < moved.mean() < 0.8
    expected = np.minimum(1, np.exp(log_ratio))[moved]
    np.testing.assert_allclose(found.quality["acceptance"][:, after][moved], expected, rtol=1e-6)


def test_infer_returns_the_last_state_and_means_and_stops_gradients():
    part = Inference(D, num_warmup=10, num_steps=5)
    start_key, key = jax.random.split(jax.random.key(3))
    start = jax.random.normal(start_key, (D,))
    chain = sampler.run(part, key, log_joint, start)
    for given in (None, start):
        found = part.infer({}, jax.random.key(3), None, log_joint, given)
        np.testing.assert_allclose(found.z, chain.z[-1], rtol=1e-12)
        mean = chain.quality["acceptance"].mean()
        np.testing.assert_allclose(found.info["acceptance"], mean, rtol=1e-12)
        assert found.log_q == 0

    def everything(scale, start):
        infer = part.infer({}, jax.random.key(0), None, lambda z: log_joint(scale * z), start)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(infer))

    for leaf in jax.jit(jax.grad(everything, argnums=(0, 1)))(1.0, start):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    (
        ({"kernel": "nut"}, "inference.kernel='nut': did you mean 'nuts'"),
        ({"num_warmup": 0}, "inference.num_warmup=0"),
        ({"num_steps": 0}, "inference.num_steps=0"),
        ({"num_leapfrog": 0}, "inference.num_leapfrog=0"),
        ({"step_size": 0.0}, "inference.step_size=0.0"),
        ({"kernel": "mclmc", "latent_dim": 1}, "model.latent_dim=1: .* needs at least 2"),
    ),
)
def test_settings_that_cannot_run(settings, named):
    with pytest.raises(UserError, match=named):
        Inference(**{"latent_dim": D} | settings)


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    command = r"sampler needs blackjax, .*: pip install 'lfbm_jax\[samplers\]'"
    with pytest.raises(UserError, match=command):
        Inference(D)
