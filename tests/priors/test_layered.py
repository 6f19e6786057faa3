"""The layered prior: its density, its draws, and what the generator sees of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.model import Model
from lfbm_jax.objectives import variational
from lfbm_jax.priors import layered
from tests.builders import invented
from tests.linear_gaussian import LinearGenerator

D = 2


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_layers_have_the_density_they_sample_from():
    """Two layers of one entry: the density integrates to one, with the moments of the draws."""
    prior = layered.Prior(2, num_layers=2, hidden_width=4)
    alpha = invented(prior.init, scale=0.5)
    axis = np.linspace(-8, 8, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_prob = jax.jit(jax.vmap(prior.log_prob, (None, 0)))(alpha, grid)
    mass = np.exp(log_prob) * (axis[1] - axis[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    keys = jax.random.split(jax.random.key(0), 40_000)
    z = jax.jit(jax.vmap(prior.sample, (None, 0)))(alpha, keys)
    second = (grid * mass[:, None]).T @ grid
    assert abs(second[0, 1]) > 0.1, "the layers do not depend on each other"
    np.testing.assert_allclose(np.mean(z, axis=0), mass @ grid, atol=0.05)
    np.testing.assert_allclose(z.T @ z / len(z), second, atol=0.1)


def test_layers_begin_as_independent_standard_normals():
    prior = layered.Prior(8, num_layers=4, hidden_width=4)
    alpha = jax.jit(prior.init)(jax.random.key(0))
    z = np.random.default_rng(0).normal(size=8)
    expected = jnp.sum(jax.scipy.stats.norm.logpdf(z))
    assert prior.log_prob(alpha, z) == pytest.approx(float(expected))


def test_layers_below_the_first_reach_the_image_through_it_alone():
    prior = layered.Prior(3 * D, num_layers=3, hidden_width=4)
    generator = LinearGenerator(prior.generator_dim, (2, 3, 1))
    chain = langevin.Inference(3 * D)
    model = Model(prior, generator, chain, chain, 0.6, variational.Objective())
    parameters = invented(model.init, scale=0.5)
    keys = jax.random.split(jax.random.key(0), 2)
    z, _ = jax.jit(jax.vmap(model.sample, (None, 0)))(parameters, keys)
    assert z.shape == (2, 3 * D)
    decode = jax.jit(model.decode)
    other = z[0].at[D:].add(1.0)
    np.testing.assert_array_equal(decode(parameters, z[0]), decode(parameters, other))
    assert np.any(decode(parameters, z[0]) != decode(parameters, z[0].at[0].add(1.0)))
    assert model.log_p_z(parameters, z[0]) != model.log_p_z(parameters, other)


def test_layers_must_divide_the_latent_dimension():
    with pytest.raises(UserError, match=r"num_layers=5: must divide model\.latent_dim=2"):
        layered.Prior(2, num_layers=5)
