"""The regularised autoencoder's terms one by one, its mixture, and its place in training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.baselines.rae import Baseline, Mixture, WithWeights
from lfbm_jax.errors import UserError
from lfbm_jax.inference import Posterior
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.priors import gaussian
from tests.builders import perturbed
from tests.linear_gaussian import LinearGenerator

D, SHAPE = 3, (2, 3, 1)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True)
class LinearEncoder:
    """z = phi x."""

    noise = False

    def init(self, key):
        return jax.random.normal(key, (D, 6))

    def moments(self, phi, image):
        return phi @ image.ravel(), jnp.zeros(D)

    def infer(self, phi, key, example, log_joint, start=None):
        z = self.moments(phi, example.image)[0]
        return Posterior(z, jnp.sum(z), {"norm_z": jnp.linalg.norm(z)})


def adapted(**settings):
    encoder = LinearEncoder()
    model = Model(gaussian.Prior(D), LinearGenerator(D, SHAPE), encoder, encoder, 0.3)
    return Baseline(D, **settings).adapt(model)


@pytest.mark.parametrize("regularizer", ["none", "l2", "gradient_penalty"])
@pytest.mark.parametrize("masked", [False, True])
def test_objective_is_the_sum_of_its_terms(regularizer, masked):
    model = adapted(regularizer=regularizer, regularizer_weight=0.7, latent_weight=0.2)
    random = np.random.default_rng(0)
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    phi = random.normal(size=(D, 6))
    x = random.uniform(-1, 1, SHAPE)
    mask = np.array([[[1.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]]]) if masked else None

    @jax.jit
    def evaluate(beta, phi, key):
        prepared = model.prepare(Parameters(model.prior.init(key), beta, phi))
        keys = {"inference": key, "prior_loss": key}
        return model.objective(model, prepared, prepared, keys, Example(x, 0, 1.0, mask))

    keys = jax.random.split(jax.random.key(0), 4000 if regularizer == "gradient_penalty" else 2)
    losses, metrics = jax.vmap(evaluate, (None, None, 0))(beta, phi, keys)
    z = phi @ x.ravel()
    visible = np.ones(6) if mask is None else mask.ravel()
    squares = (x.ravel() - beta["matrix"] @ z - beta["bias"]) ** 2 * visible
    squared_weights = np.sum(beta["matrix"] ** 2)  # Of a linear g, the squared norm of dg/dz too.
    expected = squares.sum() + 0.2 * 0.5 * z @ z
    expected += 0 if regularizer == "none" else 0.7 * squared_weights
    error = 4 * np.std(losses) / np.sqrt(len(losses)) + 1e-9
    assert abs(np.mean(losses) - expected) < error < 0.05 * expected
    np.testing.assert_allclose(metrics["mse"], squares.sum() / visible.sum())


def test_no_gradient_reaches_the_mixture():
    model = adapted()
    parameters = jax.jit(model.init)(jax.random.key(0))
    keys = dict.fromkeys(("inference", "prior_loss"), jax.random.key(1))

    @jax.jit
    def gradient(parameters):
        def loss(parameters):
            prepared = model.prepare(parameters)
            example = Example(jnp.full(SHAPE, 0.3), 0, 1.0)
            return model.objective(model, prepared, prepared, keys, example)[0]

        return jax.grad(loss)(parameters)

    found = gradient(parameters)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.alpha))
    assert all(np.any(leaf) for leaf in jax.tree.leaves((found.beta, found.phi)))


def test_spectral_norm_leaves_every_kernel_with_norm_one():
    @dataclasses.dataclass(frozen=True)
    class Kernels:
        def prepare(self, beta):
            return beta

    random = np.random.default_rng(0)
    beta = {
        "kernel": random.normal(size=(2, 2, 3, 5)),
        "dense": random.normal(size=(4, 5)),
        "bias": random.normal(size=5),
    }
    prepared = jax.jit(WithWeights(Kernels(), spectral_norm=True).prepare)(beta)
    for name in ("kernel", "dense"):
        kernel = np.asarray(prepared["generator"][name])
        assert np.linalg.norm(kernel.reshape(-1, 5), 2) == pytest.approx(1)
        ratio = beta[name] / kernel
        np.testing.assert_allclose(ratio, ratio.flat[0])
    np.testing.assert_array_equal(prepared["generator"]["bias"], beta["bias"])
    squares = sum(np.sum(beta[name] ** 2) for name in ("kernel", "dense"))
    assert prepared["squared_weights"] == pytest.approx(squares)


def test_mixture_has_the_density_it_samples_from():
    mixture = Mixture(2, 3)
    alpha = perturbed(mixture.init(jax.random.key(0)), scale=0.4)
    alpha["factors"] = jnp.tril(alpha["factors"])
    alpha["log_weights"] = jax.nn.log_softmax(alpha["log_weights"])
    z = np.random.default_rng(0).normal(size=(5, 2))
    found = jax.jit(jax.vmap(mixture.log_prob, (None, 0)))(alpha, z)
    components = [
        scipy.stats.multivariate_normal(mean, factor @ factor.T)
        for mean, factor in zip(alpha["means"], np.asarray(alpha["factors"]), strict=True)
    ]
    weights = np.exp(alpha["log_weights"])
    expected = sum(w * c.pdf(z) for w, c in zip(weights, components, strict=True))
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-9)
    keys = jax.random.split(jax.random.key(1), 20_000)
    draws = jax.jit(jax.vmap(mixture.sample, (None, 0)))(alpha, keys)
    mean = weights @ alpha["means"]
    second = sum(
        w * (f @ f.T + np.outer(m, m))
        for w, f, m in zip(weights, alpha["factors"], alpha["means"], strict=True)
    )
    np.testing.assert_allclose(np.mean(draws, axis=0), mean, atol=0.03)
    np.testing.assert_allclose(draws.T @ draws / len(draws), second, atol=0.06)


def test_mixture_is_the_standard_normal_before_it_is_fitted_and_the_data_after():
    mixture = Mixture(2, 2)
    alpha = mixture.init(jax.random.key(0))
    z = np.array([0.3, -2.0])
    expected = scipy.stats.norm.logpdf(z).sum()
    assert mixture.log_prob(alpha, z) == pytest.approx(expected)
    random = np.random.default_rng(0)
    near, far = random.normal(size=(300, 2)), random.normal(size=(100, 2)) * 0.5 + 8
    fitted = mixture.fit(alpha, np.concatenate([near, far]).astype(np.float32), seed=0)
    order = np.argsort(fitted["means"][:, 0])
    np.testing.assert_allclose(np.exp(fitted["log_weights"])[order], [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(fitted["means"][order], [[0, 0], [8, 8]], atol=0.2)
    np.testing.assert_allclose(fitted["factors"][order[1]], 0.5 * np.eye(2), atol=0.15)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"regularizer": "l1"}, "baseline.regularizer='l1': use one of none, l2"),
        ({"latent_weight": -1.0}, "baseline.latent_weight=-1.0: must be at least 0"),
        ({"num_components": 0}, "baseline.num_components=0: must be at least 1"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(UserError, match=said):
        adapted(**settings)
