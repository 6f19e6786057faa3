"""The model's densities against scipy, and the errors for configs that describe no model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.model import Parameters
from lfbm_jax.runs import build
from tests.builders import invented, small_config

SIGMA = 0.5


@pytest.fixture(scope="module")
def case():
    """A model, its prepared random parameters, an image, a latent vector z and z's mean image."""
    with jax.enable_x64(True):
        model = build.model(small_config())
        parameters = invented(model.init, scale=0.4)
        random = np.random.default_rng(0)
        x, z = random.uniform(-1, 1, (8, 8, 1)), random.normal(size=5)
        prepared = jax.jit(model.prepare)(parameters)
        mean = jax.jit(model.decode)(prepared, z)
        yield model, prepared, x, z, np.asarray(mean)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_log_p_x_given_z_is_a_normal_density_with_its_constant(case):
    model, prepared, x, z, mean = case
    expected = scipy.stats.norm(mean, SIGMA).logpdf(x).sum()
    found = jax.jit(model.log_p_x_given_z)(prepared, x, z)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(model.log_p_x_given_mean(prepared, x, mean), expected, rtol=1e-10)
    assert np.std(mean) > 0.05, "the case says nothing"


@pytest.mark.parametrize("channels", (1, 3))
def test_mask_leaves_invisible_pixels_out(case, channels):
    model = case[0]
    random = np.random.default_rng(1)
    x, mean = random.uniform(-1, 1, (2, 8, 8, channels))
    mask = (random.uniform(size=(8, 8, 1)) < 0.6).astype(float)
    log_prob = functools.partial(jax.jit(model.log_p_x_given_mean), case[1])
    visible = np.broadcast_to(mask == 1, x.shape)
    expected = scipy.stats.norm(mean[visible], SIGMA).logpdf(x[visible]).sum()
    np.testing.assert_allclose(log_prob(x, mean, mask), expected, rtol=1e-10)
    hidden = np.where(visible, x, 100.0)
    np.testing.assert_array_equal(log_prob(hidden, mean, mask), log_prob(x, mean, mask))
    np.testing.assert_allclose(log_prob(x, mean, np.ones_like(mask)), log_prob(x, mean), rtol=1e-10)


def test_log_joint_gives_both_terms_and_passes_the_mask_on(case):
    model, prepared, x, z, mean = case
    mask = np.zeros((8, 8, 1))
    mask[:3] = 1

    @jax.jit
    def everything(z):
        return (
            model.log_joint(prepared, x)(z),
            model.log_joint(prepared, x, mask)(z),
            model.log_p_z(prepared, z),
            model.prior.log_prob(prepared.alpha, z),
        )

    whole, visible, log_p_z, of_prior = everything(z)
    np.testing.assert_allclose(log_p_z, of_prior, rtol=1e-12)
    for found, given in ((whole, None), (visible, mask)):
        np.testing.assert_allclose(found[0], of_prior, rtol=1e-10)
        expected = model.log_p_x_given_mean(prepared, x, mean, given)
        np.testing.assert_allclose(found[1], expected, rtol=1e-10)


def test_sampling_is_ancestral(case):
    """z is a sample of the prior, not a plain Gaussian draw, and x is the mean image of z."""
    model, prepared, *_ = case
    key = jax.random.key(3)
    z, x = jax.jit(model.sample)(prepared, key)
    np.testing.assert_allclose(z, jax.jit(model.prior.sample)(prepared.alpha, key), rtol=1e-10)
    np.testing.assert_allclose(x, jax.jit(model.decode)(prepared, z), rtol=1e-10)
    assert np.max(np.abs(z - jax.random.normal(key, (5,)))) > 0.01


def test_init_and_prepare_serve_every_group(case):
    model = case[0]
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert isinstance(shapes, Parameters)
    assert shapes.phi is None and shapes.psi is None and shapes.alpha and shapes.beta
    prepared = jax.eval_shape(model.prepare, shapes)
    expected = jax.eval_shape(model.prior.prepare, shapes.alpha)
    assert jax.tree.structure(prepared.alpha) == jax.tree.structure(expected)


@pytest.mark.parametrize("x64", (False, True))
def test_to_unit_range(x64):
    with jax.enable_x64(x64):
        x = to_unit_range(jnp.arange(256, dtype=jnp.uint8))
        assert x.dtype == (jnp.float64 if x64 else jnp.float32)
        assert x[0] == -1 and x[255] == 1
        np.testing.assert_allclose(x + x[::-1], 0, atol=3e-7)
        np.testing.assert_allclose(np.diff(x), 2 / 255, rtol=1e-4)


def test_bfloat16_stays_inside_the_generator():
    config = small_config()
    config.precision = "bfloat16"
    with jax.enable_x64(False):
        model = build.model(config)
        assert model.generator.dtype == jnp.bfloat16
        parameters = jax.eval_shape(model.init, jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}

        def log_joint(parameters, x, z):
            return model.log_joint(model.prepare(parameters), x)(z)

        found = jax.eval_shape(log_joint, parameters, jnp.zeros((8, 8, 1)), jnp.zeros(5))
        assert {leaf.dtype for leaf in found} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    (
        ("model.sigma", 0.0, "model.sigma=0.0: must be positive"),
        ("model.sigma", -1.0, "model.sigma=-1.0: must be positive"),
        ("model.sigma", float("nan"), "model.sigma=nan: must be positive"),
        ("model.latent_dim", 0, "model.latent_dim=0: must be at least 1"),
        ("model.latent_dim", 1, "model.latent_dim=1: .*at least 2"),
        ("data.image_size", 16, r"generator.layers=.*\(8, 8, 1\).*\(16, 16, 1\)"),
        ("prior.name", "glo", "prior.name='glo': did you mean 'glow'"),
        ("prior.name", "gaussian", "prior=gaussian"),
        ("inference.num_steps", 0, "inference.num_steps=0"),
    ),
)
def test_build_refuses_what_is_no_model(key, value, said):
    config = small_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=said):
        build.model(config)
