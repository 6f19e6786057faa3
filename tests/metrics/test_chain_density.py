"""Bounds of a chain's density against the exact divergence of two Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.inference.langevin import Inference
from lfbm_jax.metrics import chain_density
from lfbm_jax.metrics.chain_density import chain_densities
from lfbm_jax.model import Example, Parameters
from tests.linear_gaussian import chain_gaps, linear_model, log_evidence, posterior

SIGMA, SHAPE, D, STEP = 0.6, (2, 3, 1), 2, 0.25
NUM_STEPS = (1, 3, 6, 40)  # Gaps of 3.3, 1.3, 0.4 and none: one step more or less shows.
NOISE = 3 * np.array([0.17, 0.08, 0.035, 0.005])  # Three standard deviations over 40 seeds.


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_bounds_of_a_few_chains_are_their_definitions():
    """log-densities of each z under the mixture of the others' last steps, and of all of them."""
    z, mean = np.random.default_rng(0).normal(size=(2, 4, D))
    components = scipy.stats.norm.pdf(z[:, None], mean, STEP).prod(axis=2)
    of_all = np.log(components.mean(axis=1)).mean()
    np.fill_diagonal(components, 0)
    of_others = np.log(components.sum(axis=1) / 3).mean()
    found = chain_density._mixture(jnp.asarray(z), jnp.asarray(mean), STEP)
    np.testing.assert_allclose(found, [of_others, of_all], rtol=1e-13)


def test_bounds_enclose_the_exact_gap():
    random = np.random.default_rng(0)
    model = linear_model(D, SHAPE, SIGMA)
    beta = {"matrix": 0.6 * random.normal(size=(6, D)), "bias": random.normal(size=6)}
    x = random.normal(size=SHAPE)
    chain = Inference(D, num_steps=1, step_size=STEP)

    @jax.jit
    def run(beta, x, key):
        densities = model.log_joint(Parameters({}, beta, {}), x)
        example = Example(x, jnp.zeros((), int), jnp.ones(()))
        return chain_densities(chain, {}, example, densities, key, NUM_STEPS, num_chains=1000)

    log_joint, below, above = map(np.asarray, run(beta, x, jax.random.key(1)))
    log_p_x = log_evidence(beta, SIGMA, x)
    exact = chain_gaps(*posterior(beta, SIGMA, x), STEP, NUM_STEPS)
    lower, upper = log_p_x + below - log_joint, log_p_x + above - log_joint
    assert exact[0] > 1 > 0.05 > exact[-1], "else there is nothing to tell apart"
    assert np.all(lower <= exact + NOISE) and np.all(exact <= upper + NOISE)
    assert np.all(upper - lower < 0.2)
