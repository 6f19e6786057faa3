"""Langevin dynamics, Eq. 8, against Python loops and against stationary laws in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference.langevin import Inference
from lfbm_jax.model import Parameters
from tests.linear_gaussian import linear_model, posterior

D, SIGMA = 3, 0.8
MODEL = linear_model(D, (2, 2, 1), SIGMA)
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(4, D)), "bias": RANDOM.normal(size=4)}
X = RANDOM.normal(size=(2, 2, 1))
START = np.array([1.5, -2.0, 0.5])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def infer(inference, key, start=None, beta=BETA):
    return inference.infer({}, key, None, MODEL.log_joint(Parameters({}, beta, {}), X), start)


def gradients(z):
    """Of log p(z) and of log p(x|z), worked out by hand, in NumPy."""
    residual = np.ravel(X) - BETA["bias"] - BETA["matrix"] @ z
    return -z, BETA["matrix"].T @ residual / SIGMA**2


def test_without_noise_it_is_gradient_ascent_with_half_the_squared_step_size():
    inference = Inference(D, num_steps=5, step_size=0.3, noise=False)
    z = START
    for _ in range(5):
        of_prior, of_likelihood = gradients(z)
        z = z + 0.3**2 / 2 * (of_prior + of_likelihood)
    found = jax.jit(lambda key: infer(inference, key, START))(jax.random.key(0))
    np.testing.assert_allclose(found.z, z, rtol=1e-12)
    np.testing.assert_allclose(found.info["norm_z"], np.sqrt(np.sum(z**2)), rtol=1e-12)
    # The gradients of the last step, taken where it began.
    for name, gradient in (("prior", of_prior), ("likelihood", of_likelihood)):
        norm = np.sqrt(np.sum(gradient**2))
        np.testing.assert_allclose(found.info[f"grad_norm_log_{name}"], norm, rtol=1e-12)
    assert found.log_q.shape == () and found.log_q == 0


def test_without_noise_it_climbs_to_the_mode():
    inference = Inference(D, num_steps=400, step_size=0.4, noise=False)
    mean, _ = posterior(BETA, SIGMA, X)
    found = jax.jit(lambda key: infer(inference, key))(jax.random.key(0))
    np.testing.assert_allclose(found.z, mean, rtol=1e-6)


def test_the_scan_is_a_loop_with_the_same_keys():
    inference = Inference(D, num_steps=4, step_size=0.3)
    start_key, noise_key = jax.random.split(jax.random.key(5))
    z = np.asarray(jax.random.normal(start_key, (D,)))
    for i in range(4):
        noise = np.asarray(jax.random.normal(jax.random.fold_in(noise_key, i), (D,)))
        z = z + 0.3**2 / 2 * sum(gradients(z)) + 0.3 * noise
    np.testing.assert_allclose(infer(inference, jax.random.key(5)).z, z, rtol=1e-12)
    given = infer(inference, jax.random.key(5), jax.random.normal(start_key, (D,)))
    np.testing.assert_allclose(given.z, z, rtol=1e-12)


def test_chains_of_a_linear_generator_have_their_exact_stationary_law():
    """For a quadratic target of precision P the law is N(mean, (P - s^2 P^2 / 4)^-1).

    The step is large enough for the correction to matter, so that a drift of s^2 instead of
    s^2 / 2, or noise of another size, is detected as well as a wrong target.
    """
    s, chains = 0.5, 20_000
    inference = Inference(D, num_steps=120, step_size=s)
    mean, precision = posterior(BETA, SIGMA, X)
    stationary = np.linalg.inv(precision - s**2 / 4 * precision @ precision)
    assert np.max(np.linalg.eigvalsh(precision)) < 0.75 * 4 / s**2, "the chain must be stable"
    assert np.max(np.abs(stationary @ precision - np.eye(D))) > 0.2, "the bias must matter"
    keys = jax.random.split(jax.random.key(1), chains)
    z = np.asarray(jax.jit(jax.vmap(lambda key: infer(inference, key).z))(keys))
    # In coordinates in which the law is N(0, I), errors are those of standard normal draws.
    white = np.linalg.solve(np.linalg.cholesky(stationary), (z - mean).T)
    np.testing.assert_allclose(white.mean(axis=1), 0, atol=4.5 / np.sqrt(chains))
    np.testing.assert_allclose(np.cov(white), np.eye(D), atol=4.5 * np.sqrt(2 / chains))


def test_a_standard_normal_keeps_its_stationary_variance():
    """1 / (1 - s^2 / 4), here 4 / 3."""
    inference = Inference(2, num_steps=60, step_size=1.0)

    def chain(key):
        log_joint = lambda z: (-0.5 * jnp.sum(z**2), jnp.zeros(()))  # noqa: E731
        return inference.infer({}, key, None, log_joint).z

    z = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(3), 50_000)))
    np.testing.assert_allclose(np.mean(z**2), 4 / 3, rtol=4.5 * np.sqrt(2 / z.size))
    np.testing.assert_allclose(np.mean(z), 0, atol=4.5 * np.sqrt(4 / 3 / z.size))


def test_no_gradient_flows_through_the_chain():
    inference = Inference(D, num_steps=3, step_size=0.3)

    def everything(beta, start):
        found = infer(inference, jax.random.key(0), start, beta)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found))

    of_beta, of_start = jax.jit(jax.grad(everything, argnums=(0, 1)))(BETA, START)
    for leaf in (*of_beta.values(), of_start):
        np.testing.assert_array_equal(leaf, 0)


def test_it_keeps_float32():
    with jax.enable_x64(False):
        beta = jax.tree.map(jnp.float32, BETA)
        found = infer(Inference(D, num_steps=2), jax.random.key(0), beta=beta)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("settings", "named"),
    (
        ({"num_steps": 0}, "num_steps=0"),
        ({"step_size": 0.0}, "step_size=0.0"),
        ({"step_size": -0.1}, "step_size=-0.1"),
        ({"step_size": float("nan")}, "step_size=nan"),
    ),
)
def test_settings_that_cannot_run(settings, named):
    with pytest.raises(UserError, match=named):
        Inference(D, **settings)
