"""BiGAN's losses and score, with a linear encoder and a bilinear discriminator."""

import dataclasses

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives import bigan
from lfbm_jax.objectives.base import Keys
from tests.differences import central
from tests.linear_gaussian import LinearEncoder, linear_model

D, SHAPE = 3, (2, 3, 1)
LAYERS = ((4, 1, 1, 0),)  # that fit such small images; not used here
KEYS = Keys(jax.random.key(1), jax.random.key(2))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Bilinear:
    def apply(self, parameters, image, z):
        return image.ravel() @ parameters["matrix"] @ z


class Objective(bigan.Objective):
    def _network(self):
        return Bilinear()


def setting(masked=False):
    random = np.random.default_rng(0)
    encoder = LinearEncoder(D, 6)
    model = dataclasses.replace(
        linear_model(D, SHAPE, 0.3, encoder, encoder),
        objective=Objective(D, SHAPE, None, LAYERS, score_weight=0.25),
    )
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    psi = {"discriminator": {"matrix": 0.3 * random.normal(size=(6, D))}}
    mask = np.array([[[1.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]]]) if masked else None
    x = random.uniform(-1, 1, SHAPE) * (1 if mask is None else mask)
    parameters = Parameters({}, beta, random.normal(size=(D, 6)), psi)
    return model, parameters, Example(x, 0, 1.0, mask)


def logits(parameters, example):
    """D(x, mu(x)), D(g(z), z) and mu(x)."""
    matrix, beta = parameters.psi["discriminator"]["matrix"], parameters.beta
    x, z = example.image.ravel(), np.asarray(jax.random.normal(KEYS.loss, (D,)))
    visible = np.ones(6) if example.mask is None else example.mask.ravel()
    sample, mean = (beta["matrix"] @ z + beta["bias"]) * visible, parameters.phi @ x
    return x @ matrix @ mean, sample @ matrix @ z, mean


def cross_entropy(logit, label):
    return np.logaddexp(0, -logit if label else logit)


def expected_loss(number, parameters, example):
    """That of the discriminator, then that of generator and encoder."""
    of_image, of_sample, _ = logits(parameters, example)
    label = 1 - number
    return cross_entropy(of_image, label) + cross_entropy(of_sample, 1 - label)


@pytest.mark.parametrize("masked", [False, True])
def test_losses_are_cross_entropies_with_opposite_labels(masked):
    model, parameters, example = setting(masked)
    mean = parameters.phi @ example.image.ravel()
    losses = [
        jax.jit(update.loss, static_argnums=0)(model, parameters, KEYS, example)
        for update in model.objective.updates
    ]
    expected = [expected_loss(number, parameters, example) for number in (0, 1)]
    np.testing.assert_allclose([loss.value for loss in losses], expected, rtol=1e-9)
    image = parameters.beta["matrix"] @ mean + parameters.beta["bias"]
    squares = (example.image.ravel() - image) ** 2
    seen = np.ones(6, bool) if example.mask is None else example.mask.ravel() > 0
    assert losses[1].metrics["mse"] == pytest.approx(squares[seen].mean(), rel=1e-9)
    np.testing.assert_allclose(losses[1].z, mean, rtol=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_what_each_step_changes_gets_the_gradient_of_its_loss(masked):
    """So the reconstruction error, which is logged, teaches neither generator nor encoder."""
    model, parameters, example = setting(masked)
    changes = [update.changes for update in model.objective.updates]
    assert changes == [("discriminator",), ("prior", "generator", "inference")]

    def gradients(number):
        loss = model.objective.updates[number].loss
        return jax.grad(lambda parameters: loss(model, parameters, KEYS, example).value)(parameters)

    matrix = parameters.psi["discriminator"]["matrix"]
    expected = central(
        lambda matrix: expected_loss(
            0, parameters._replace(psi={"discriminator": {"matrix": matrix}}), example
        ),
        matrix,
    )
    found = gradients(0).psi["discriminator"]["matrix"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    found = gradients(1)
    expected = central(
        lambda phi: expected_loss(1, parameters._replace(phi=phi), example), parameters.phi
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.phi, expected, rtol=1e-6, atol=1e-7)
    for name, value in parameters.beta.items():
        expected = central(
            lambda value, name=name: expected_loss(
                1, parameters._replace(beta=parameters.beta | {name: value}), example
            ),
            value,
        )
        np.testing.assert_allclose(found.beta[name], expected, rtol=1e-6, atol=1e-7)


def test_score():
    model, parameters, example = setting()
    of_image, _, mean = logits(parameters, example)
    image = parameters.beta["matrix"] @ mean + parameters.beta["bias"]
    distance = np.abs(example.image.ravel() - image).sum()
    expected = -0.75 * distance - 0.25 * cross_entropy(of_image, 1)
    found = model.objective.score(model, parameters, example)
    assert found == pytest.approx(expected, rel=1e-9)


def test_bad_settings():
    with pytest.raises(UserError, match=r"objective\.score_weight=1\.5: must be in \[0, 1\]"):
        bigan.Objective(D, SHAPE, None, LAYERS, score_weight=1.5)
    chain = dataclasses.replace(setting()[0], inference=langevin.Inference(D))
    with pytest.raises(UserError, match=r"objective\.name='bigan': .* use the variant :bigan"):
        chain.objective.check(chain)
