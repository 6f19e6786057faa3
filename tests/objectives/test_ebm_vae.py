"""EBM-VAE's three losses and its score, with a Gaussian encoder and a bilinear energy."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives import ebm_vae
from lfbm_jax.objectives.base import Keys
from lfbm_jax.priors import glow
from tests.differences import central
from tests.linear_gaussian import LinearEncoder, linear_model

D, SHAPE, SIGMA = 3, (2, 3, 1), 0.6
LAYERS = ((4, 1, 1, 0),)  # that fit such small images; not used here
KEYS = Keys(jax.random.key(1), jax.random.key(2))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Bilinear:
    def apply(self, parameters, image, z):
        return image.ravel() @ parameters["matrix"] @ z + parameters["bias"]


class Objective(ebm_vae.Objective):
    def _network(self):
        return Bilinear()


def setting(masked=False):
    random = np.random.default_rng(0)
    model = dataclasses.replace(
        linear_model(D, SHAPE, SIGMA, LinearEncoder(D, 6, 0.5), LinearEncoder(D, 6)),
        objective=Objective(D, SHAPE, None, LAYERS),
    )
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    psi = {"energy": {"matrix": random.normal(size=(6, D)), "bias": np.array([0.3])[0]}}
    mask = np.array([[[1.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]]]) if masked else None
    x = random.uniform(-1, 1, SHAPE) * (1 if mask is None else mask)
    parameters = Parameters({}, beta, random.normal(size=(D, 6)), psi)
    return model, parameters, Example(x, 0, 1.0, mask)


def energy(parameters, x, z):
    """softplus(x.S z / |S| + bias), with the largest singular value as the norm."""
    matrix = parameters.psi["energy"]["matrix"]
    value = x @ (matrix / np.linalg.svd(matrix)[1][0]) @ z + parameters.psi["energy"]["bias"]
    return np.log1p(np.exp(value))


def pieces(parameters, example):
    """x, z_q, g(z), z, and which pixels are visible."""
    x = example.image.ravel()
    visible = np.ones(6) if example.mask is None else example.mask.ravel()
    z_q = parameters.phi @ x + 0.5 * np.asarray(jax.random.normal(KEYS.inference, (D,)))
    z = np.asarray(jax.random.normal(KEYS.loss, (D,)))
    sample = (parameters.beta["matrix"] @ z + parameters.beta["bias"]) * visible
    return x, z_q, sample, z, visible


def log_joint(parameters, x, z, visible):
    mean = parameters.beta["matrix"] @ z + parameters.beta["bias"]
    likelihood = scipy.stats.norm.logpdf(x, mean, SIGMA) @ visible
    return scipy.stats.norm.logpdf(z).sum(), likelihood


def expected_loss(number, parameters, example):
    """That of the energy, of the encoder, and of the generator."""
    x, z_q, sample, z, visible = pieces(parameters, example)
    of_image, of_sample = energy(parameters, x, z_q), energy(parameters, sample, z)
    log_p_z, log_p_x = log_joint(parameters, x, z_q, visible)
    return (
        of_image - of_sample,
        -log_p_z - log_p_x - of_image,
        -log_p_z - log_p_x + of_sample,
    )[number]


@pytest.mark.parametrize("masked", [False, True])
def test_losses(masked):
    model, parameters, example = setting(masked)
    x, z_q, _, _, visible = pieces(parameters, example)
    losses = [
        jax.jit(update.loss, static_argnums=0)(model, parameters, KEYS, example)
        for update in model.objective.updates
    ]
    expected = [expected_loss(number, parameters, example) for number in range(3)]
    np.testing.assert_allclose([loss.value for loss in losses], expected, rtol=1e-9)
    mean = parameters.beta["matrix"] @ z_q + parameters.beta["bias"]
    error = (x - mean)[visible > 0] ** 2
    assert losses[2].metrics["mse"] == pytest.approx(error.mean(), rel=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_what_each_step_changes_gets_the_gradient_of_its_loss(masked):
    model, parameters, example = setting(masked)
    changes = [update.changes for update in model.objective.updates]
    assert changes == [("energy",), ("inference",), ("prior", "generator")]
    of_energy, of_encoder, of_generator = (
        jax.grad(lambda parameters, loss=update.loss: loss(model, parameters, KEYS, example).value)(
            parameters
        )
        for update in model.objective.updates
    )
    close = {"rtol": 1e-6, "atol": 1e-6}
    psi, beta = parameters.psi["energy"], parameters.beta
    for name, value in psi.items():
        expected = central(
            lambda value, name=name: expected_loss(
                0, parameters._replace(psi={"energy": psi | {name: value}}), example
            ),
            value,
        )
        np.testing.assert_allclose(of_energy.psi["energy"][name], expected, **close)
    expected = central(
        lambda phi: expected_loss(1, parameters._replace(phi=phi), example), parameters.phi
    )
    np.testing.assert_allclose(of_encoder.phi, expected, **close)
    np.testing.assert_array_equal(of_generator.phi, 0)
    for name, value in beta.items():
        expected = central(
            lambda value, name=name: expected_loss(
                2, parameters._replace(beta=beta | {name: value}), example
            ),
            value,
        )
        np.testing.assert_allclose(of_generator.beta[name], expected, **close)


def test_score_is_of_the_encoders_mean():
    model, parameters, example = setting()
    x = example.image.ravel()
    expected = -energy(parameters, x, parameters.phi @ x)
    found = model.objective.score(model, parameters, example)
    assert found == pytest.approx(expected, rel=1e-9)


def test_what_it_cannot_be_computed_for():
    model = setting()[0]
    model.objective.check(model)
    refused = {
        "needs an encoder": {"inference": langevin.Inference(D)},
        r"needs the prior N\(0, I\)": {"prior": glow.Prior(D)},
        "and a fixed sigma": {"learned_sigma": True},
    }
    for said, part in refused.items():
        changed = dataclasses.replace(model, **part)
        with pytest.raises(UserError, match=rf"objective\.name='ebm_vae': .*{said}.* :ebm_vae"):
            changed.objective.check(changed)
