"""The regularised autoencoder's terms one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives import rae
from lfbm_jax.objectives.base import Keys
from lfbm_jax.priors import gaussian, glow, mixture
from tests.linear_gaussian import LinearEncoder, linear_model

D, SHAPE = 3, (2, 3, 1)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def rae_model(**settings):
    encoder = LinearEncoder(D, 6)
    return dataclasses.replace(
        linear_model(D, SHAPE, 0.3, encoder, encoder),
        prior=mixture.Prior(D, num_components=2),
        objective=rae.Objective(**settings),
    )


@pytest.mark.parametrize("regularizer", ["none", "l2", "gradient_penalty"])
@pytest.mark.parametrize("masked", [False, True])
def test_objective_is_the_sum_of_its_terms(regularizer, masked):
    model = rae_model(regularizer=regularizer, regularizer_weight=0.7, latent_weight=0.2)
    random = np.random.default_rng(0)
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    phi = random.normal(size=(D, 6))
    x = random.uniform(-1, 1, SHAPE)
    mask = np.array([[[1.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]]]) if masked else None

    @jax.jit
    def evaluate(beta, phi, key):
        prepared = model.prepare(Parameters(model.prior.init(key), beta, phi))
        keys = Keys(key, key)
        found = model.objective.loss(model, prepared, keys, Example(x, 0, 1.0, mask))
        penalty = model.objective.weight_penalty(beta)
        return found.value + (0 if penalty is None else penalty), found.metrics

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
    model = rae_model()
    parameters = jax.jit(model.init)(jax.random.key(0))
    keys = Keys(jax.random.key(1), jax.random.key(1))

    @jax.jit
    def gradient(parameters):
        def loss(parameters):
            prepared = model.prepare(parameters)
            example = Example(jnp.full(SHAPE, 0.3), 0, 1.0)
            return model.objective.loss(model, prepared, keys, example).value

        return jax.grad(loss)(parameters)

    found = gradient(parameters)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.alpha))
    assert all(np.any(leaf) for leaf in jax.tree.leaves((found.beta, found.phi)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"regularizer": "l1"}, "objective.regularizer='l1': use one of none, l2"),
        ({"latent_weight": -1.0}, "objective.latent_weight=-1.0: must be at least 0"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(UserError, match=said):
        rae_model(**settings)


def test_chains_and_noisy_encoders_are_refused():
    model = dataclasses.replace(rae_model(), inference=langevin.Inference(D))
    with pytest.raises(UserError, match=r"needs inference=encoder with inference\.noise=False"):
        model.objective.check(model)


def test_a_prior_that_nothing_would_teach_is_refused():
    model = rae_model()
    for prior in (model.prior, gaussian.Prior(D)):
        model.objective.check(dataclasses.replace(model, prior=prior))
    with pytest.raises(UserError, match="its loss does not train the prior"):
        model.objective.check(dataclasses.replace(model, prior=glow.Prior(D)))
