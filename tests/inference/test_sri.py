"""The bound of the short-run map and its search, on models whose posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import sri
from lfbm_jax.model import Example, Parameters
from lfbm_jax.runs import build
from tests.builders import small_config
from tests.linear_gaussian import linear_model, posterior

D, SHAPE, SIGMA, K = 2, (2, 3, 1), 0.6, 6


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def sri_model(step_size):
    chain = sri.Inference(D, num_steps=K, step_size=step_size)
    return linear_model(D, SHAPE, SIGMA, chain, chain)


def linear_parameters():
    random = np.random.default_rng(0)
    return {"matrix": 0.6 * random.normal(size=(6, D)), "bias": random.normal(size=6)}


def some_examples(count):
    images = np.random.default_rng(1).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return Example(images, np.arange(count, dtype=np.int32), np.ones(count))


def exact_bound(beta, x, step_size):
    """E_q[log p(x, z) - log q(z)] for q the image of N(0, I) under K ascents: log p(x) - KL."""
    mean, precision = posterior(beta, SIGMA, x)
    covariance = beta["matrix"] @ beta["matrix"].T + SIGMA**2 * np.eye(6)
    residual = np.ravel(x) - beta["bias"]
    log_evidence = -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    jacobian = np.linalg.matrix_power(np.eye(D) - 0.5 * step_size**2 * precision, K)
    off = -jacobian @ mean
    log_det = np.linalg.slogdet(precision)[1] + 2 * np.linalg.slogdet(jacobian)[1]
    trace = np.trace(precision @ jacobian @ jacobian.T)
    return log_evidence - 0.5 * (trace - D - log_det + off @ precision @ off), log_evidence


def test_bound_of_a_linear_gaussian_model():
    model, beta = sri_model(0.25), linear_parameters()
    x = np.random.default_rng(1).normal(size=SHAPE)

    @jax.jit
    def bounds(beta, keys):
        log_joint = model.log_joint(Parameters({}, beta, {}), x)
        return jax.vmap(lambda key: model.inference.bound(0.25, key, log_joint))(keys)

    found = np.asarray(bounds(beta, jax.random.split(jax.random.key(0), 4000)))
    expected, log_evidence = exact_bound(beta, x, 0.25)
    error = 4 * found.std() / np.sqrt(len(found))
    assert abs(found.mean() - expected) < error < 0.5 * (log_evidence - expected)


@pytest.mark.parametrize("first", [0.05, 0.35])
def test_search_finds_the_step_size_of_the_greatest_bound(first):
    """From below and from above, if no ascent has passed the mode yet."""
    model, beta = sri_model(first), linear_parameters()
    examples = some_examples(40)
    tune = model.inference.tuner(model)
    phi = jax.jit(model.inference.init)(jax.random.key(0))
    assert np.exp(phi["log_step_size"]) == pytest.approx(first)
    for _ in range(14):
        phi = tune(Parameters({}, beta, phi), examples)
    grid = np.geomspace(0.05, 1.2, 200)
    x = examples.image / 127.5 - 1
    mean = [np.mean([exact_bound(beta, image, s)[0] for image in x]) for s in grid]
    best = grid[np.argmax(mean)]
    assert sri.FACTORS[0] < np.exp(phi["log_step_size"]) / best < sri.FACTORS[-1]


def test_one_search_brings_chains_back_that_overshoot():
    """At s = 2 each step multiplies the distance to the mode of this posterior by up to ten."""
    model, beta = sri_model(2.0), linear_parameters()
    examples = some_examples(4)
    _, precision = posterior(beta, SIGMA, examples.image[0] / 127.5 - 1)
    stable = 2 / np.sqrt(np.linalg.eigvalsh(precision)[-1])
    assert 2.0 > 2 * stable
    phi = jax.jit(model.inference.init)(jax.random.key(0))
    phi = model.inference.tuner(model)(Parameters({}, beta, phi), examples)
    assert np.exp(phi["log_step_size"]) < sri.FACTORS[-1] * stable


class Bounded(sri.Inference):
    """An inference double whose bound is greatest at s = 0.2 and not a number above 0.3."""

    def bound(self, step_size, key, log_joint):
        return jnp.where(step_size > 0.3, jnp.nan, -jnp.square(jnp.log(step_size / 0.2)))


def test_a_step_size_without_a_bound_is_never_the_best():
    def search(step_size):
        chain = Bounded(D, num_steps=K, step_size=step_size)
        model = linear_model(D, SHAPE, SIGMA, chain, chain)
        parameters = Parameters({}, linear_parameters(), chain.init(jax.random.key(0)))
        return np.exp(chain.tuner(model)(parameters, some_examples(1))["log_step_size"])

    assert search(0.29) == pytest.approx(0.29 * 0.8**2)
    with pytest.raises(FloatingPointError, match="bounds of all step sizes tried"):
        search(100.0)


@pytest.mark.parametrize("which", ["inference", "eval_inference"])
def test_chain_is_gradient_ascent_with_the_step_size_in_phi(which):
    """In evaluation too, against its own setting."""
    model, beta = sri_model(0.25), linear_parameters()
    x = np.random.default_rng(1).normal(size=SHAPE)
    phi = {"log_step_size": jnp.log(0.4)}
    start = jnp.array([0.5, -1.0])

    @jax.jit
    def infer(phi):
        log_joint = model.log_joint(Parameters({}, beta, phi), x)
        return getattr(model, which).infer(phi, jax.random.key(0), None, log_joint, start)

    mean, precision = posterior(beta, SIGMA, x)
    jacobian = np.linalg.matrix_power(np.eye(D) - 0.5 * 0.4**2 * precision, K)
    found = infer(phi)
    np.testing.assert_allclose(found.z, mean + jacobian @ (start - mean), rtol=1e-9)
    assert found.log_q == 0 and found.info["step_size"] == pytest.approx(0.4)


def test_the_bound_of_a_convolutional_generator_can_be_traced():
    config = small_config()
    config.prior = build.defaults("prior", "gaussian")
    config.inference = build.defaults("inference", "sri")
    model = build.model(config)

    def bound(key, image):
        parameters = model.init(key)
        log_joint = model.log_joint(model.prepare(parameters), image)
        return model.inference.bound(jnp.asarray(0.1), key, log_joint)

    found = jax.eval_shape(bound, jax.random.key(0), jnp.zeros((8, 8, 1)))
    assert found.shape == () and found.dtype == jnp.float64


def test_noise_is_refused():
    with pytest.raises(UserError, match=r"inference\.noise=True: the chains of sri have none"):
        sri.Inference(D, noise=True)
