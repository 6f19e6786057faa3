"""The first stage's bound with a learned deviation, and the second stage on known latents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lfbm_jax.baselines.two_stage_vae import Baseline, SecondStage
from lfbm_jax.inference import Posterior
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.priors import gaussian
from lfbm_jax.tasks.prior_fit import squared_mmd
from tests.linear_gaussian import LinearGenerator

D, SHAPE = 3, (2, 3, 1)


@dataclasses.dataclass(frozen=True)
class ShiftedNormal:
    """q(z|x) = N(phi, I)."""

    has_density = True

    def infer(self, phi, key, example, log_joint, start=None):
        noise = jax.random.normal(key, (D,))
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(noise))
        return Posterior(phi + noise, log_q, {"log_q": log_q})


def test_objective_is_the_negative_bound_with_its_own_deviation():
    random = np.random.default_rng(0)
    inference = ShiftedNormal()
    model = Model(gaussian.Prior(D), LinearGenerator(D, SHAPE), inference, inference, 0.3)
    model = Baseline(D, hidden_width=4).adapt(model)
    beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
    phi, x = random.normal(size=D), random.uniform(-1, 1, SHAPE)
    key = jax.random.key(5)
    with jax.enable_x64(True):
        alpha = jax.jit(model.prior.init)(key)
        assert np.exp(alpha["log_gamma"]) == pytest.approx(0.3)
        noise = np.asarray(jax.random.normal(key, (D,)))
        error = x.ravel() - beta["matrix"] @ (phi + noise) - beta["bias"]
        best = np.log(np.sqrt(np.mean(error**2)))

        @jax.jit
        def evaluate(log_gamma):
            def loss(log_gamma):
                prepared = Parameters(alpha | {"log_gamma": log_gamma}, beta, phi)
                keys = {"inference": key, "prior_loss": key}
                return model.objective(model, prepared, prepared, keys, Example(x, 0, 1.0))

            return jax.value_and_grad(loss, has_aux=True)(log_gamma)

        for log_gamma in (-0.4, best):
            (found, metrics), slope = evaluate(log_gamma)
            normal = scipy.stats.norm
            bound = normal(scale=np.exp(log_gamma)).logpdf(error).sum()
            bound += normal.logpdf(phi + noise).sum() - normal.logpdf(noise).sum()
            assert found == pytest.approx(-bound) and metrics["elbo"] == pytest.approx(bound)
    # Where gamma^2 is the mean squared error, the bound has its maximum in gamma.
    assert slope == pytest.approx(0, abs=1e-9)


def test_second_stage_learns_the_latents_it_is_fitted_to():
    """Two clusters on a line in two dimensions, which N(0, I) is far from."""
    random = np.random.default_rng(0)
    z = np.stack([random.choice([-1.2, 1.2], size=2000), np.zeros(2000)], axis=1)
    z += 0.15 * random.normal(size=z.shape)
    settings = Baseline(2, hidden_width=32, num_steps=2000, batch_size=64, learning_rate=3e-3)
    prior = SecondStage(settings, sigma=0.3)
    alpha = jax.jit(prior.init)(jax.random.key(0)) | {"log_gamma": jnp.float32(-1.7)}
    fitted = prior.fit(alpha, z.astype(np.float32), seed=0)
    assert fitted["log_gamma"] == np.float32(-1.7)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (alpha, fitted)]
    assert shapes[0] == shapes[1]
    keys = jax.random.split(jax.random.key(1), 1000)
    draw = jax.jit(jax.vmap(prior.sample, (None, 0)))
    before, after = (np.asarray(draw(a, keys), float) for a in (alpha, fitted))
    assert squared_mmd(after, z[:1000]) < 5e-3 < 5e-2 < squared_mmd(before, z[:1000])
