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


@pytest.mark.parametrize("masked", [False, True])
def test_losses(masked):
    model, parameters, example = setting(masked)
    x, z_q, sample, z, visible = pieces(parameters, example)
    of_image, of_sample = energy(parameters, x, z_q), energy(parameters, sample, z)
    log_p_z, log_p_x = log_joint(parameters, x, z_q, visible)
    expected = [
        of_image - of_sample,
        -log_p_z - log_p_x - of_image,
        -log_p_z - log_p_x + of_sample,
    ]
    losses = [
        jax.jit(update.loss, static_argnums=0)(model, parameters, KEYS, example)
        for update in model.objective.updates
    ]
    np.testing.assert_allclose([loss.value for loss in losses], expected, rtol=1e-9)
    mean = parameters.beta["matrix"] @ z_q + parameters.beta["bias"]
    error = (x - mean)[visible > 0] ** 2
    assert losses[2].metrics["mse"] == pytest.approx(error.mean(), rel=1e-9)


def test_the_generator_does_not_teach_the_encoder_and_each_step_changes_its_own_group():
    model, parameters, example = setting()
    changes = [update.changes for update in model.objective.updates]
    assert changes == [("energy",), ("inference",), ("prior", "generator")]

    def slope(number):
        loss = model.objective.updates[number].loss
        return jax.grad(
            lambda phi: loss(model, parameters._replace(phi=phi), KEYS, example).value
        )(parameters.phi)

    np.testing.assert_array_equal(slope(2), 0)
    assert np.abs(slope(1)).max() > 0.1


def test_score_is_of_the_encoders_mean():
    model, parameters, example = setting()
    x = example.image.ravel()
    expected = -energy(parameters, x, parameters.phi @ x)
    found = model.objective.score(model, parameters, example)
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_chain_is_refused():
    model = dataclasses.replace(setting()[0], inference=langevin.Inference(D))
    with pytest.raises(UserError, match=r"objective\.name='ebm_vae': .* use the variant :ebm_vae"):
        model.objective.check(model)
