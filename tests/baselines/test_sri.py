"""The bound of the short-run map and its search, on models whose posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax import model as models
from lfbm_jax.baselines.sri import FACTORS, Baseline, Layers
from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.priors import gaussian
from lfbm_jax.runs import parts
from tests.builders import invented, small_config
from tests.linear_gaussian import LinearGenerator, posterior

D, SHAPE, SIGMA, K = 2, (2, 3, 1), 0.6, 6


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def adapted(step_size, dim=D, **settings):
    chain = langevin.Inference(dim, num_steps=K, step_size=step_size, noise=False)
    model = Model(gaussian.Prior(dim), LinearGenerator(dim, SHAPE), chain, chain, SIGMA)
    return Baseline(dim, **settings).adapt(model)


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
    model, beta = adapted(0.25), linear_parameters()
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
    """From below and from above, where no ascent has gone past the mode yet."""
    model, beta = adapted(first), linear_parameters()
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
    assert FACTORS[0] < np.exp(phi["log_step_size"]) / best < FACTORS[-1]


def test_one_search_brings_chains_back_that_overshoot():
    """At s = 2 each step multiplies the distance to the mode of this posterior by up to ten."""
    model, beta = adapted(2.0), linear_parameters()
    examples = some_examples(4)
    _, precision = posterior(beta, SIGMA, examples.image[0] / 127.5 - 1)
    stable = 2 / np.sqrt(np.linalg.eigvalsh(precision)[-1])
    assert 2.0 > 2 * stable
    phi = jax.jit(model.inference.init)(jax.random.key(0))
    phi = model.inference.tuner(model)(Parameters({}, beta, phi), examples)
    assert np.exp(phi["log_step_size"]) < FACTORS[-1] * stable


@pytest.mark.parametrize("which", ["inference", "eval_inference"])
def test_chain_is_gradient_ascent_with_the_step_size_in_phi(which):
    """In evaluation too, whatever its settings say."""
    model, beta = adapted(0.25), linear_parameters()
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


def test_layers_have_the_density_they_sample_from():
    """Two layers of one entry: the density integrates to one, with the moments of the draws."""
    prior = Layers(layer_dim=1, num_layers=2, hidden_width=4)
    alpha = invented(prior.init, scale=0.5)
    axis = np.linspace(-8, 8, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_prob = jax.jit(jax.vmap(prior.log_prob, (None, 0)))(alpha, grid)
    mass = np.exp(log_prob) * (axis[1] - axis[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    keys = jax.random.split(jax.random.key(0), 40_000)
    z = jax.jit(jax.vmap(prior.sample, (None, 0)))(alpha, keys)
    second = (grid * mass[:, None]).T @ grid
    assert abs(second[0, 1]) > 0.1, "the layers do not depend on each other"
    np.testing.assert_allclose(np.mean(z, axis=0), mass @ grid, atol=0.05)
    np.testing.assert_allclose(z.T @ z / len(z), second, atol=0.1)


def test_layers_begin_as_independent_standard_normals():
    prior = Layers(layer_dim=2, num_layers=4, hidden_width=4)
    alpha = jax.jit(prior.init)(jax.random.key(0))
    z = np.random.default_rng(0).normal(size=8)
    expected = jnp.sum(jax.scipy.stats.norm.logpdf(z))
    assert prior.log_prob(alpha, z) == pytest.approx(float(expected))


def test_layers_below_the_first_reach_the_image_through_it_alone():
    model = adapted(0.25, dim=3 * D, num_layers=3, hidden_width=4)
    parameters = invented(model.init, scale=0.5)
    keys = jax.random.split(jax.random.key(0), 2)
    z, _ = jax.jit(jax.vmap(model.sample, (None, 0)))(parameters, keys)
    assert z.shape == (2, 3 * D)
    decode = jax.jit(model.decode)
    other = z[0].at[D:].add(1.0)
    np.testing.assert_array_equal(decode(parameters, z[0]), decode(parameters, other))
    assert np.any(decode(parameters, z[0]) != decode(parameters, z[0].at[0].add(1.0)))
    assert model.log_p_z(parameters, z[0]) != model.log_p_z(parameters, other)


def test_the_bound_of_a_convolutional_generator_can_be_traced():
    config = small_config()
    config.prior = parts.defaults("prior", "gaussian")
    config.inference.noise = False
    config.baseline = parts.defaults("baseline", "sri")
    model = models.build(config)

    def bound(key, image):
        parameters = model.init(key)
        log_joint = model.log_joint(model.prepare(parameters), image)
        return model.inference.bound(jnp.asarray(0.1), key, log_joint)

    found = jax.eval_shape(bound, jax.random.key(0), jnp.zeros((8, 8, 1)))
    assert found.shape == () and found.dtype == jnp.float64


def test_layers_must_divide_the_latent_dimension():
    with pytest.raises(UserError, match=r"num_layers=5: must divide model\.latent_dim=2"):
        adapted(0.25, num_layers=5)
