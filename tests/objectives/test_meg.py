"""MEG's losses and score from closed forms: a quadratic energy, a bilinear statistic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives import meg
from lfbm_jax.objectives.base import Keys
from tests.differences import central
from tests.linear_gaussian import LinearEncoder, linear_model

D, SHAPE = 3, (2, 3, 1)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Quadratic:
    """E(x) = scale |x|^2 / 2."""

    def apply(self, parameters, image):
        return 0.5 * parameters["scale"] * jnp.sum(image**2, keepdims=True).ravel()


class Bilinear:
    """T(x, z) = x.S z."""

    def apply(self, parameters, image, z):
        return image.ravel() @ parameters["matrix"] @ z


class Objective(meg.Objective):
    def _energy_network(self):
        return Quadratic()

    def _statistic_network(self):
        return Bilinear()


def setting(masked=False):
    random = np.random.default_rng(0)
    model = linear_model(D, SHAPE, 0.3, langevin.Inference(D))
    model = dataclasses.replace(model, objective=Objective(D, SHAPE, None, gradient_weight=0.7))
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    psi = {"energy": {"scale": 1.5}, "statistic": {"matrix": random.normal(size=(6, D))}}
    mask = np.array([[[1.0], [0.0], [1.0]], [[1.0], [1.0], [0.0]]]) if masked else None
    x = random.uniform(-1, 1, SHAPE) * (1 if mask is None else mask)
    return model, Parameters({}, beta, None, psi), Example(x, 0, 1.0, mask)


KEYS = Keys(jax.random.key(1), jax.random.key(2))


def sample_of(parameters, example, key):
    """g(z) where the example is visible, and z."""
    z = np.asarray(jax.random.normal(key, (D,)))
    visible = np.ones(6) if example.mask is None else example.mask.ravel()
    return (parameters.beta["matrix"] @ z + parameters.beta["bias"]) * visible, z


def energy_loss(parameters, example):
    x, (sample, _) = example.image.ravel(), sample_of(parameters, example, KEYS.loss)
    scale = parameters.psi["energy"]["scale"]
    return 0.5 * scale * (x @ x - sample @ sample) + 0.7 * scale**2 * x @ x


def generator_loss(parameters, example):
    z_key, other_key = jax.random.split(KEYS.loss)
    sample, z = sample_of(parameters, example, z_key)
    other = np.asarray(jax.random.normal(other_key, (D,)))
    matrix = parameters.psi["statistic"]["matrix"]
    of_pair, of_no_pair = (sample @ matrix @ vector for vector in (z, other))
    information = -np.logaddexp(0, -of_pair) - np.logaddexp(0, of_no_pair)
    return 0.75 * sample @ sample - information


@pytest.mark.parametrize("masked", [False, True])
def test_losses(masked):
    model, parameters, example = setting(masked)
    of_energy, of_generator = (
        jax.jit(update.loss, static_argnums=0)(model, parameters, KEYS, example)
        for update in model.objective.updates
    )
    x, (sample, _) = example.image.ravel(), sample_of(parameters, example, KEYS.loss)
    contrast = 0.75 * (x @ x - sample @ sample)
    assert of_energy.metrics["loss_energy"] == pytest.approx(contrast, rel=1e-9)
    assert of_energy.value == pytest.approx(energy_loss(parameters, example), rel=1e-9)
    assert of_generator.value == pytest.approx(generator_loss(parameters, example), rel=1e-9)
    sample, _ = sample_of(parameters, example, jax.random.split(KEYS.loss)[0])
    information = 0.75 * sample @ sample - generator_loss(parameters, example)
    assert of_generator.metrics["information"] == pytest.approx(information, rel=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_what_each_step_changes_gets_the_gradient_of_its_loss(masked):
    model, parameters, example = setting(masked)
    of_energy, of_generator = (
        jax.grad(lambda parameters, loss=update.loss: loss(model, parameters, KEYS, example).value)(
            parameters
        )
        for update in model.objective.updates
    )
    psi, close = parameters.psi, {"rtol": 1e-6, "atol": 1e-6}
    expected = central(
        lambda scale: energy_loss(
            parameters._replace(psi=psi | {"energy": {"scale": scale}}), example
        ),
        psi["energy"]["scale"],
    )
    np.testing.assert_allclose(of_energy.psi["energy"]["scale"], expected, **close)
    expected = central(
        lambda matrix: generator_loss(
            parameters._replace(psi=psi | {"statistic": {"matrix": matrix}}), example
        ),
        psi["statistic"]["matrix"],
    )
    np.testing.assert_allclose(of_generator.psi["statistic"]["matrix"], expected, **close)
    for name, value in parameters.beta.items():
        expected = central(
            lambda value, name=name: generator_loss(
                parameters._replace(beta=parameters.beta | {name: value}), example
            ),
            value,
        )
        np.testing.assert_allclose(of_generator.beta[name], expected, **close)


def test_the_score_is_low_where_the_energy_is_high():
    model, parameters, example = setting()
    score = model.objective.score(model, parameters, example)
    assert score == pytest.approx(-0.75 * np.sum(example.image**2), rel=1e-9)


def test_real_networks_are_told_apart_by_their_steps():
    """The energy's step changes the energy alone; the other two learn together, as published."""
    objective = meg.Objective(D, (8, 8, 1), None)
    psi = jax.eval_shape(objective.init, jax.random.key(0))
    assert psi.keys() == {"energy", "statistic"}
    changes = [(update.changes, update.times) for update in objective.updates]
    assert changes == [(("energy",), 5), (("prior", "generator", "statistic"), 1)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gradient_weight": -1.0}, r"objective\.gradient_weight=-1\.0: must be at least 0"),
        ({"energy_updates": 0}, r"objective\.energy_updates=0: must be at least 1"),
        ({"layers": ()}, r"objective\.layers is empty"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(UserError, match=said):
        meg.Objective(D, SHAPE, None, **settings)


def test_an_inference_network_is_refused_as_no_step_would_teach_it():
    model = setting()[0]
    model.objective.check(model)
    model = dataclasses.replace(model, inference=LinearEncoder(D, 6))
    with pytest.raises(UserError, match=r"objective\.name='meg': .* use the variant :meg"):
        model.objective.check(model)
