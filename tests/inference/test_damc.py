"""Chains from a diffusion model's draw: what teaches the model, and what it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import damc, langevin
from lfbm_jax.inference.damc import Inference
from lfbm_jax.layers import diffusion
from tests.builders import invented
from tests.inference.taught import (
    LAYERS,
    SHAPE,
    STEP,
    D,
    X,
    infer,
    law_of_chains,
    learn,
    loss_of,
    model_of,
)  # fmt: skip
from tests.rounding import assert_close

SIZES = {"num_features": 8, "hidden_width": 32, "num_layers": 2}
SIZES |= {"image_shape": SHAPE, "dtype": None}
DAMC = Inference(D, 3, STEP, True, LAYERS, **SIZES)
MODEL = model_of(DAMC)


def test_the_sampler_learns_the_gaussian_law_of_the_chains_given_each_image():
    """Its draws, without a step of the chain, by mean and covariance."""
    phi = learn(MODEL, rate=5e-3, num_steps=1000, repeats=8)
    keys = jax.random.split(jax.random.key(5), 4000)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def starts(phi, image, key):
        return infer(DAMC, phi, key, image).start

    for image in X:
        mean, covariance = law_of_chains(image)
        off = np.asarray(starts(phi, image, keys)) - mean
        white = np.linalg.solve(np.linalg.cholesky(covariance), off.T)
        assert np.max(np.abs(white.mean(axis=1))) < 0.4
        assert 0.5 < np.min(np.linalg.eigvalsh(np.cov(white)))
        assert np.max(np.linalg.eigvalsh(np.cov(white))) < 1.6
        untaught = np.asarray(starts(DAMC.init(jax.random.key(0)), image, keys)).mean(axis=0)
        assert np.max(np.abs(untaught - mean) / np.sqrt(np.diag(covariance))) > 1


def test_z_is_langevins_from_the_start_and_phi_gets_the_gradient_of_the_denoising_loss():
    with jax.enable_x64(True):
        phi, key = invented(DAMC.init, scale=0.3), jax.random.key(2)
        image = jnp.asarray(X[0], float)
        found = jax.jit(lambda phi: infer(DAMC, phi, key, image))(phi)
        _, chain_key, loss_key = jax.random.split(key, 3)
        given = infer(DAMC, phi, key, image, jnp.ones(D))
        moved = infer(langevin.Inference(D, 3, STEP), None, chain_key, image, jnp.ones(D))
        assert_close(given.z, moved.z, roundings=1000)
        again = infer(langevin.Inference(D, 3, STEP), None, chain_key, image, found.start)
        assert_close(found.z, again.z, roundings=1000)
        assert found.log_q == 0

        def denoising(phi):
            predict = DAMC._given(phi, image)
            each = [diffusion.loss(predict, k, found.z) for k in jax.random.split(loss_key, 6)]
            return sum(each) / 6

        value, slope = jax.jit(jax.value_and_grad(denoising))(phi)
        np.testing.assert_allclose(found.loss, value, rtol=1e-10)
        gradient = jax.jit(jax.grad(lambda phi: loss_of(MODEL, phi, key, image).value))(phi)
        assert_close(gradient, slope, roundings=1e4)


def test_a_start_that_is_far_away_is_drawn_back_to_the_ball():
    with jax.enable_x64(True):
        phi, image = invented(DAMC.init, scale=1.0), jnp.asarray(X[0], float)
        key = jax.random.key(2)
        start_key, _, _ = jax.random.split(key, 3)
        far = diffusion.sample(DAMC._given(phi, image), start_key, D, DAMC.diffusion_steps)
        reach = damc.RADIUS * D**0.5
        assert jnp.linalg.norm(far) > 2 * reach
        start = infer(DAMC, phi, key, image).start
        np.testing.assert_allclose(start, far * reach / jnp.linalg.norm(far), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": ()}, r"inference\.layers is empty"),
        ({"num_steps": 0}, r"inference\.num_steps=0"),
        ({"num_draws": 0}, r"inference\.num_draws=0"),
        ({"diffusion_steps": 1}, r"inference\.diffusion_steps=1: must be at least 2"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(UserError, match=said):
        Inference(D, **{"layers": LAYERS, **SIZES, **settings})


@pytest.mark.parametrize("far", [30.0, 3e19, 3e37])
def test_a_draw_from_far_away_is_brought_back_to_the_ball(far):
    """Also where its square overflows."""
    start = jnp.array([far, -far / 4], jnp.float32)
    found = damc._within_ball(start, 5.0)
    np.testing.assert_allclose(found, 5 * np.array([4, -1]) / np.sqrt(17), rtol=1e-5)
    np.testing.assert_array_equal(damc._within_ball(start / far, 5.0), start / far)
