"""Bounds of the gap against the exact divergence of two Gaussians."""

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.inference.langevin import Inference
from lfbm_jax.model import Parameters
from lfbm_jax.runs import configuration
from lfbm_jax.tasks.posterior_gap import chain_densities
from tests.builders import small_config
from tests.linear_gaussian import linear_model, posterior

SIGMA, SHAPE, D, STEP = 0.6, (2, 3, 1), 2, 0.4
NUM_STEPS = (1, 2, 5, 40)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def exact_gaps(mean, precision):
    """KL(q_K | posterior): a Gaussian posterior makes the chain Gaussian, N(m, c) after a step."""
    m, c = np.zeros(D), np.eye(D)
    shrink = np.eye(D) - 0.5 * STEP**2 * precision
    gaps = {}
    for k in range(1, max(NUM_STEPS) + 1):
        m = mean + shrink @ (m - mean)
        c = shrink @ c @ shrink.T + STEP**2 * np.eye(D)
        log_dets = np.linalg.slogdet(precision @ c)[1]
        off = m - mean
        gaps[k] = 0.5 * (np.trace(precision @ c) - D - log_dets + off @ precision @ off)
    return np.array([gaps[k] for k in NUM_STEPS])


def test_bounds_enclose_the_exact_gap():
    random = np.random.default_rng(0)
    model = linear_model(D, SHAPE, SIGMA)
    beta = {"matrix": 0.6 * random.normal(size=(6, D)), "bias": random.normal(size=6)}
    x = random.normal(size=SHAPE)
    chain = Inference(D, num_steps=1, step_size=STEP)

    @jax.jit
    def run(beta, x, key):
        densities = model.log_joint(Parameters({}, beta, {}), x)
        return chain_densities(chain, densities, key, NUM_STEPS, num_chains=1000)

    log_joint, below, above = map(np.asarray, run(beta, x, jax.random.key(1)))
    covariance = beta["matrix"] @ beta["matrix"].T + SIGMA**2 * np.eye(6)
    residual = x.ravel() - beta["bias"]
    log_evidence = -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    exact = exact_gaps(*posterior(beta, SIGMA, x))
    lower, upper = log_evidence + below - log_joint, log_evidence + above - log_joint
    assert exact[0] > 1 > 0.05 > exact[-1], "else there is nothing to tell apart"
    noise = 0.1  # Three standard errors of the mean log-densities of 1,000 chains.
    assert np.all(lower <= exact + noise) and np.all(exact <= upper + noise)
    assert np.all(upper - lower < 0.2)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("inference.noise", False, "tasks: posterior_gap looks at Langevin chains with noise"),
        ("task.posterior_gap.num_steps", (5, 5), r"num_steps=\(5, 5\): must ascend"),
        ("task.posterior_gap.num_steps", (0, 5), "must ascend from at least 1"),
        ("task.posterior_gap.num_steps", (), "must ascend from at least 1"),
    ],
)
def test_what_it_cannot_measure_is_said_before_training(key, value, said):
    config = small_config()
    config.tasks = ("posterior_gap",)
    configuration.check(config)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=said):
        configuration.check(config)
