"""Inference from incomplete images, compared with a posterior known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.inference import base, langevin
from lfbm_jax.inference.base import Posterior
from lfbm_jax.model import Parameters
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model, posterior
from tests.rounding import assert_close

D, SHAPE, SIGMA = 3, (4, 4, 3), 0.8
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(48, D)), "bias": RANDOM.normal(size=48)}
IMAGES = RANDOM.integers(0, 256, (5, *SHAPE), dtype=np.uint8)
MASKS = RANDOM.integers(0, 2, (5, 4, 4, 1), dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class EncoderDouble(base.Inference):
    """Needs whole images; z is the mean of the image."""

    def infer(self, phi, key, example, log_joint, start=None):
        z = jnp.full(D, jnp.mean(example.image))
        return Posterior(z, jnp.zeros(()), {})


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


CHAIN = langevin.Inference(D, num_steps=300, step_size=0.12, noise=False)


def trained(inference):
    config = small_config()
    config.model.latent_dim = D
    config.data.update({"image_size": SHAPE[0], "channels": SHAPE[2]})
    model = linear_model(D, SHAPE, SIGMA, inference, inference)
    model = dataclasses.replace(model, masked_inference=CHAIN)
    return TrainedModel(config, model, Parameters({}, BETA, {}), 0)


def modes():
    """The mean of p(z|x) given the visible pixels of x, for every image."""
    found = []
    for image, mask in zip(IMAGES, MASKS, strict=True):
        seen = np.broadcast_to(mask == 1, SHAPE).ravel()
        beta = {name: values[seen] for name, values in BETA.items()}
        found.append(posterior(beta, SIGMA, (image / 127.5 - 1).ravel()[seen])[0])
    return np.stack(found)


def test_inference_climbs_the_density_of_the_visible_pixels():
    model = trained(langevin.Inference(D, num_steps=1500, step_size=0.15, noise=False))
    found = model.infer(IMAGES, batch_size=2, masks=MASKS)
    np.testing.assert_allclose(found.z, modes(), rtol=1e-6)
    other = np.where(MASKS == 1, IMAGES, 255 - IMAGES)
    again = model.infer(other, batch_size=2, masks=MASKS)
    jax.tree.map(np.testing.assert_array_equal, again, found)
    assert np.all(np.abs(model.infer(IMAGES).z - found.z).max(axis=1) > 1e-2)


def test_chains_start_apart_and_are_repeatable():
    model = trained(langevin.Inference(D, num_steps=2, step_size=0.1, noise=False))
    first, second, again = (model.infer(IMAGES, masks=MASKS, chain=i).z for i in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.abs(first - second).max(axis=1) > 1e-2)


def test_where_inference_needs_whole_images_langevin_dynamics_takes_over():
    model = trained(EncoderDouble(D))
    assert model.masked_inference == CHAIN
    found = model.infer(IMAGES, masks=MASKS).z
    expected = trained(model.masked_inference).infer(IMAGES, masks=MASKS).z
    assert_close(found, expected, roundings=1000)
    np.testing.assert_allclose(found, modes(), atol=0.1)


def test_hidden_pixels_are_grey_for_whoever_looks_at_them():
    model = trained(EncoderDouble(D))
    found = model.infer(IMAGES, masks=MASKS, training_settings=True).z
    expected = np.mean(MASKS * (IMAGES / 127.5 - 1), axis=(1, 2, 3))
    np.testing.assert_allclose(found, np.repeat(expected[:, None], D, axis=1))
