"""The variational objective for any prior and inference, and with a sigma that is learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.inference import base
from lfbm_jax.inference.base import Posterior
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.objectives import variational
from lfbm_jax.objectives.base import Keys
from lfbm_jax.priors.base import Prior
from lfbm_jax.runs import build
from tests.builders import experiment
from tests.linear_gaussian import LinearGenerator, linear_model

D, SHAPE, SIGMA = 3, (2, 3, 1), 0.7


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True)
class ShiftedNormal(base.Inference):
    """q(z|x) = N(phi, I)."""

    has_density = True

    def infer(self, phi, key, example, log_joint, start=None):
        noise = jax.random.normal(key, (D,))
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(noise))
        return Posterior(phi + noise, log_q, {"log_q": log_q})


def learning_sigma(sigma):
    inference = ShiftedNormal(D)
    model = linear_model(D, SHAPE, sigma, inference, inference)
    return dataclasses.replace(model, learned_sigma=True)


def test_a_learned_sigma_is_that_of_the_bound_and_of_every_density():
    random = np.random.default_rng(0)
    model = learning_sigma(0.3)
    generator = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    phi, x = random.normal(size=D), random.uniform(-1, 1, SHAPE)
    key = jax.random.key(5)
    with jax.enable_x64(True):
        first = jax.jit(model.init)(key).beta["log_sigma"]
        assert np.exp(first) == pytest.approx(0.3)
        noise = np.asarray(jax.random.normal(key, (D,)))
        error = x.ravel() - generator["matrix"] @ (phi + noise) - generator["bias"]
        best = np.log(np.sqrt(np.mean(error**2)))

        @jax.jit
        def evaluate(log_sigma):
            def loss(log_sigma):
                beta = {"generator": generator, "log_sigma": log_sigma}
                prepared = model.prepare(Parameters({}, beta, phi))
                keys = Keys(key, key)
                found = model.objective.loss(model, prepared, keys, Example(x, 0, 1.0))
                density = model.log_p_x_given_z(prepared, x, phi + noise)
                return found.value, (found.metrics, density)

            return jax.value_and_grad(loss, has_aux=True)(log_sigma)

        for log_sigma in (-0.4, best):
            (found, (metrics, density)), slope = evaluate(log_sigma)
            normal = scipy.stats.norm
            log_p_x_given_z = normal(scale=np.exp(log_sigma)).logpdf(error).sum()
            bound = log_p_x_given_z + normal.logpdf(phi + noise).sum() - normal.logpdf(noise).sum()
            assert found == pytest.approx(-bound) and metrics["elbo"] == pytest.approx(bound)
            assert density == pytest.approx(log_p_x_given_z)
            assert metrics["sigma"] == pytest.approx(np.exp(log_sigma))
    # Where sigma^2 is the mean squared error, the bound has its maximum in sigma.
    assert slope == pytest.approx(0, abs=1e-9)


@dataclasses.dataclass(frozen=True)
class LinearPriorDouble(Prior):
    """p(z) = N(z; alpha, I) up to a constant, with a loss that uses its key."""

    normalized = False

    def init(self, key):
        return jax.random.normal(key, (3,))

    def sample(self, prepared, key):
        return prepared + jax.random.normal(key, (3,))

    def log_prob(self, prepared, z):
        return -0.5 * jnp.sum((z - prepared) ** 2)

    def loss(self, prepared, key, z):
        return -self.log_prob(prepared, z) + jnp.sum(jax.random.normal(key, (3,)) * prepared)


@dataclasses.dataclass(frozen=True)
class ReparameterisedDouble(base.Inference):
    """z = phi + noise + grad log p(z, x) at 0, with log q = sum(phi^2): not stopped anywhere."""

    def infer(self, phi, key, example, log_joint, start=None):
        slope = jax.grad(lambda z: sum(log_joint(z)))(jnp.zeros(3))
        return Posterior(phi + jax.random.normal(key, (3,)) + slope, jnp.sum(phi**2), {"one": 1.0})


def test_objective_of_any_prior_and_inference():
    """-log p(x|z) + prior.loss + log q: value, metrics, and which way gradients flow.

    Through z they reach phi. The density that inference climbs is frozen, so none reaches beta.
    """
    random = np.random.default_rng(0)
    generator = LinearGenerator(3, SHAPE)
    model = Model(
        LinearPriorDouble(3),
        generator,
        ReparameterisedDouble(3),
        None,
        SIGMA,
        variational.Objective(),
    )
    parameters = Parameters(
        random.normal(size=3),
        {"matrix": random.normal(size=(6, 3)), "bias": random.normal(size=6)},
        random.normal(size=3),
    )
    x = random.uniform(-1, 1, SHAPE)
    mask = np.array([[[1.0], [1.0], [0.0]], [[1.0], [0.0], [1.0]]])
    keys = Keys(jax.random.key(1), jax.random.key(2))
    example = Example(x, 0, 1.0, mask)

    @jax.jit
    def evaluate(parameters):
        def loss(prepared):
            found = model.objective.loss(model, prepared, keys, example)
            return found.value, found.metrics

        return jax.value_and_grad(loss, has_aux=True)(parameters)

    (loss, metrics), gradient = evaluate(parameters)

    alpha, beta, phi = parameters[:3]
    matrix, visible = beta["matrix"], mask.ravel()
    residual = lambda z: x.ravel() - matrix @ z - beta["bias"]  # noqa: E731
    noise, loss_noise = (np.asarray(jax.random.normal(key, (3,))) for key in keys)
    slope = alpha + matrix.T @ (visible * residual(np.zeros(3))) / SIGMA**2
    z = phi + noise + slope
    seen = visible == 1
    log_p_x_given_z = scipy.stats.norm(scale=SIGMA).logpdf(residual(z))[seen].sum()
    log_p_z = -0.5 * np.sum((z - alpha) ** 2)
    prior_loss = -log_p_z + np.sum(loss_noise * alpha)
    np.testing.assert_allclose(loss, -log_p_x_given_z + prior_loss + np.sum(phi**2))
    expected = {
        "loss_generator": -log_p_x_given_z,
        "loss_prior": prior_loss,
        "log_joint": log_p_z + log_p_x_given_z,
        "mse": np.mean(residual(z)[seen] ** 2),
        "one": 1.0,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, err_msg=name)

    weighted = visible * residual(z) / SIGMA**2
    of_z = (z - alpha) - matrix.T @ weighted
    np.testing.assert_allclose(gradient.phi, of_z + 2 * phi)
    np.testing.assert_allclose(gradient.alpha, -(z - alpha) + loss_noise)
    np.testing.assert_allclose(gradient.beta["bias"], -weighted)
    np.testing.assert_allclose(gradient.beta["matrix"], -np.outer(weighted, z))


def test_an_encoder_without_noise_is_refused():
    """log q(z|x) would grow for ever: no draw holds the deviation back."""
    config = experiment("digits", "vae").copy_and_resolve_references().unlock()
    build.model(config)
    config.inference.noise = False
    with pytest.raises(UserError, match=r"^inference\.noise=False: the objective 'variational'"):
        build.model(config)
