"""The Gaussian encoder: its density, and the ELBO beside log p(x), on a linear-Gaussian model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from lfbm_jax import learning
from lfbm_jax.devices import sharding
from lfbm_jax.errors import UserError
from lfbm_jax.inference.encoder import Inference
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import convolutions
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives.base import Keys
from lfbm_jax.runs import build
from tests.builders import invented, small_config
from tests.linear_gaussian import linear_model, posterior
from tests.rounding import assert_close

D, SHAPE, SIGMA, LAYERS = 3, (4, 4, 1), 0.8, ((2, 4, 2, 1),)
ENCODER = Inference(D, SHAPE, None, LAYERS)
MODEL = linear_model(D, SHAPE, SIGMA, ENCODER, ENCODER)
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-1, 1, SHAPE)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def parameters(matrix):
    beta = {"matrix": matrix, "bias": RANDOM.normal(size=16)}
    return Parameters({}, beta, invented(ENCODER.init, scale=0.3))


def elbos(parameters, num=4000):
    """-objective at several draws: their mean estimates the ELBO, Eq. 24."""

    def one(key):
        keys = Keys(key, key)
        example = Example(jnp.asarray(X), jnp.zeros((), int), jnp.ones(()))
        found = MODEL.objective.loss(MODEL, parameters, keys, example)
        return -found.value, found.metrics["elbo"]

    found, logged = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), num))
    assert_close(found, logged, roundings=10)
    return np.asarray(found)


def log_evidence(beta):
    """log p(x) of x = A z + b + sigma * noise, in closed form."""
    covariance = beta["matrix"] @ beta["matrix"].T + SIGMA**2 * np.eye(16)
    return scipy.stats.multivariate_normal.logpdf(np.ravel(X), beta["bias"], covariance)


def test_elbo_is_the_evidence_less_the_divergence_and_never_above_it():
    """KL(q(z|x) || p(z|x)) of two Gaussians, in closed form."""
    point = parameters(RANDOM.normal(size=(16, D)))
    found = elbos(point)
    mean, deviation = map(np.asarray, ENCODER.moments(point.phi, X))
    exact_mean, precision = posterior(point.beta, SIGMA, X)
    gap = mean - exact_mean
    divergence = 0.5 * (
        np.sum(np.diag(precision) * deviation**2)
        + gap @ precision @ gap
        - D
        - np.linalg.slogdet(precision)[1]
        - 2 * np.sum(np.log(deviation))
    )
    error = 4.5 * found.std() / np.sqrt(len(found))
    expected = log_evidence(point.beta) - divergence
    assert found.mean() == pytest.approx(expected, abs=error)
    assert divergence > 2 * error, "the case says nothing"
    assert expected < log_evidence(point.beta)


def test_elbo_of_the_exact_posterior_is_the_evidence_at_every_draw():
    """With orthogonal columns the posterior has a diagonal covariance, which q can have too."""
    columns = np.linalg.qr(RANDOM.normal(size=(16, D)))[0] * [0.5, 1.0, 2.0]
    point = parameters(columns)
    mean, precision = posterior(point.beta, SIGMA, X)
    raw_deviation = np.log(np.expm1(np.diag(precision) ** -0.5))  # the inverse of softplus
    moments = np.concatenate([mean, raw_deviation])
    heads = point.phi["encoder"]["Dense_0"]
    heads |= {"kernel": jnp.zeros_like(heads["kernel"]), "bias": jnp.asarray(moments)}
    found = elbos(point, 50)
    np.testing.assert_allclose(found, log_evidence(point.beta), rtol=1e-10)


def test_draws_have_the_density_that_is_returned():
    point = parameters(RANDOM.normal(size=(16, D)))
    mean, deviation = ENCODER.moments(point.phi, X)
    example = Example(jnp.asarray(X), 0, 1.0)
    found = jax.jit(ENCODER.infer, static_argnums=3)(point.phi, jax.random.key(3), example, None)
    expected = scipy.stats.norm.logpdf(found.z, mean, deviation).sum()
    np.testing.assert_allclose(found.log_q, expected, rtol=1e-12)
    quiet = dataclasses.replace(ENCODER, noise=False)
    assert_close(quiet.infer(point.phi, jax.random.key(3), example, None).z, mean, roundings=10)


def test_an_outlying_image_has_no_runaway_deviation():
    """The deviation grows no faster than the network's output, so draws and log q stay moderate."""
    outputs = jnp.array([-30.0, 0.0, 100.0])
    phi = parameters(RANDOM.normal(size=(16, D))).phi
    heads = phi["encoder"]["Dense_0"]
    heads["kernel"] = jnp.zeros_like(heads["kernel"])
    heads["bias"] = jnp.concatenate([jnp.zeros(D), outputs])
    _, deviation = ENCODER.moments(phi, X)
    np.testing.assert_allclose(deviation, np.log1p(np.exp(outputs)), rtol=1e-12)
    example = Example(jnp.asarray(X), 0, 1.0)
    key = jax.random.key(0)
    slope = jax.jit(jax.grad(lambda phi: ENCODER.infer(phi, key, example, None).log_q))(phi)
    assert max(jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(slope)) < 2


def test_a_vanishing_deviation_leaves_float32_finite():
    with jax.enable_x64(False):
        phi = ENCODER.init(jax.random.key(0))
        phi["encoder"]["Dense_0"]["bias"] = jnp.full(2 * D, -110.0)
        example = Example(jnp.zeros(SHAPE), 0, 1.0)

        def log_q(phi):
            return ENCODER.infer(phi, jax.random.key(0), example, None).log_q

        value, slope = jax.jit(jax.value_and_grad(log_q))(phi)
        assert value.dtype == jnp.float32
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((value, slope)))


def test_gradient_in_phi_is_that_of_the_reparameterised_objective():
    """Without the gradient of the frozen density: a central difference at fixed noise."""
    point = parameters(RANDOM.normal(size=(16, D)))
    direction = invented(ENCODER.init, seed=5)

    @jax.jit
    def loss(phi):
        keys = Keys(jax.random.key(1), jax.random.key(1))
        example = Example(jnp.asarray(X), jnp.zeros((), int), jnp.ones(()))
        moved = point._replace(phi=phi)
        return MODEL.objective.loss(MODEL, moved, keys, example).value

    def ahead(h):
        return loss(jax.tree.map(lambda p, v: p + h * v, point.phi, direction))

    gradient = jax.jit(jax.grad(loss))(point.phi)
    products = jax.tree.map(lambda g, v: jnp.sum(g * v), gradient, direction)
    slope = (ahead(1e-5) - ahead(-1e-5)) / 2e-5
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6)


def test_several_updates_of_prior_and_encoder_for_one_of_the_generator():
    """Table 10: phi takes three Adam steps with new noise each, beta one with the last noise."""
    config = small_config()
    config.train.prior_inference_updates = 3
    point = parameters(RANDOM.normal(size=(16, D)))
    indices, images = np.array([3, 8], np.int32), RANDOM.integers(0, 256, (2, *SHAPE), np.uint8)
    adam = optax.adam(config.optimizer.inference.learning_rate, 0.5, 0.999)

    @jax.jit
    @jax.grad
    def gradient(moved, repeat):
        def one(index, image):
            key = key_for(config.seed, Purpose.INFERENCE, 0, index, repeat)
            keys = Keys(key, key)
            example = Example(image / 127.5 - 1, index, jnp.ones(()))
            return MODEL.objective.loss(MODEL, moved, keys, example).value

        return jnp.mean(jax.vmap(one)(indices, images))

    phi, memory = point.phi, adam.init(point.phi)
    for repeat in range(3):
        of_all = gradient(point._replace(phi=phi), repeat)
        change, memory = adam.update(of_all.phi, memory)
        phi = optax.apply_updates(phi, change)
    batch = Example(images[None, None], indices[None, None], np.ones((1, 1, 2), np.float32))
    state = sharding.replicate(learning.first_state(config, point))
    after, metrics = learning.make_update(config, MODEL, 10)(state, batch, np.int32(1))
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(compare, jax.device_get(after.parameters.phi), phi)
    jax.tree.map(lambda mu, g: compare(mu / 0.5, g), after.opt_state.beta["adam"].mu, of_all.beta)
    changes = jax.tree.map(lambda new, old: np.abs(new - old).max(), phi, point.phi)
    assert min(jax.tree.leaves(changes)) > 1e-6, "phi did not move"
    assert metrics["grad_norm_inference"][0] > 0


def test_first_convolution_is_the_definition():
    """Padding, stride and slope, written out in NumPy."""
    network = convolutions.Convolutions(((2, 4, 2, 1),), 5)
    phi = invented(lambda key: network.init(key, jnp.zeros(SHAPE)))["params"]
    padded = np.pad(X, ((1, 1), (1, 1), (0, 0)))
    kernel, bias = (np.asarray(phi["Conv_0"][name]) for name in ("kernel", "bias"))
    hidden = np.zeros((2, 2, 2))
    for i in range(2):
        for j in range(2):
            patch = padded[2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            hidden[i, j] = np.einsum("abc,abcf->f", patch, kernel) + bias
    hidden = np.maximum(hidden, 0.2 * hidden).reshape(-1)
    expected = hidden @ np.asarray(phi["Dense_0"]["kernel"]) + np.asarray(phi["Dense_0"]["bias"])
    np.testing.assert_allclose(jax.jit(network.apply)({"params": phi}, X), expected, rtol=1e-10)


def test_operations_count_every_product():
    """The products of Table 8's SVHN network: pixels out, channels in and out, kernel area."""
    layers = ((10, 3, 1, 1), (20, 4, 2, 1), (40, 4, 2, 1), (80, 4, 2, 1))
    products = 1024 * 3 * 9 * 10 + 256 * 10 * 16 * 20 + 64 * 20 * 16 * 40 + 16 * 40 * 16 * 80
    found = Inference(100, (32, 32, 3), None, layers).flops()
    assert found == 2 * (products + 16 * 80 * 200)


def test_symmetric_mirrors_the_generator():
    generator = ((64, 7, 1, 0), (32, 4, 2, 1), (16, 3, 1, 1), (1, 4, 2, 1))
    assert convolutions.symmetric(generator) == ((16, 4, 2, 1), (32, 3, 1, 1), (64, 4, 2, 1))


@pytest.mark.parametrize(
    ("layers", "said"),
    (
        ((), "inference.layers is empty: "),
        (((4, 4, 2),), r"inference.layers: \(4, 4, 2\) is not \(features"),
        (((4, 0, 2, 1),), r"inference.layers: \(4, 0, 2, 1\) is not"),
        (((4, 4, 0, 1),), r"inference.layers: \(4, 4, 0, 1\) is not"),
        (((4, 4, 2, 1), (4, 4, 1, 0)), "nothing is left of the image after layer 2 of 2"),
    ),
)
def test_bad_layers(layers, said):
    with pytest.raises(UserError, match=said):
        Inference(D, SHAPE, None, layers)


def test_a_config_without_layers_and_an_evaluation_that_does_not_fit():
    config = small_config()
    encoder = functools.partial(dict, name="encoder", noise=True)
    config.inference = encoder(layers=())
    with pytest.raises(UserError, match=r"inference\.layers is empty"):
        build.model(config)
    config.inference = encoder(layers=((4, 4, 2, 1),))
    assert build.model(config).eval_inference.num_steps == 3
    config.eval_inference = encoder(layers=((6, 4, 2, 1),))
    with pytest.raises(UserError, match=r"^eval_inference.name='encoder': its parameters differ"):
        build.model(config)
