"""The flow tilted by a classifier: its gradients, and what it learns of a known density."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.priors import fce
from lfbm_jax.priors.fce import Prior
from tests.builders import invented
from tests.rounding import assert_close

PRIOR = Prior(2, num_steps=1, hidden_width=8, tilt_width=32)
MODES, DEVIATION = np.array([[-1.4, 0.0], [1.4, 0.0]], np.float32), 0.5
STEPS, BATCH = 1000, 256
AXIS = np.linspace(-6, 6, 121, dtype=np.float32)
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1).reshape(-1, 2)
CELL = (AXIS[1] - AXIS[0]) ** 2


def draw(key, num):
    """Draws from two narrow Gaussians, which a flow of one step fits badly; [num, 2]."""
    mode_key, noise_key = jax.random.split(key)
    sign = jnp.where(jax.random.bernoulli(mode_key, shape=(num, 1)), 1.0, -1.0)
    return sign * MODES[1:] + DEVIATION * jax.random.normal(noise_key, (num, 2))


def log_density(z):
    each = [scipy.stats.norm.logpdf(z, mode, DEVIATION).sum(axis=-1) for mode in MODES]
    return scipy.special.logsumexp(each, axis=0) - np.log(2)


@functools.cache
def learned():
    """Alpha before learning, and after Adam on the loss."""
    adam = optax.adam(optax.cosine_decay_schedule(5e-3, STEPS))

    def step(carry, key):
        alpha, memory = carry

        def mean_loss(alpha):
            prepared = PRIOR.prepare(alpha)
            keys, z = jax.random.split(key, BATCH), draw(jax.random.fold_in(key, 1), BATCH)
            return jnp.mean(jax.vmap(lambda key, z: PRIOR.loss(prepared, key, z))(keys, z))

        change, memory = adam.update(jax.grad(mean_loss)(alpha), memory)
        return (optax.apply_updates(alpha, change), memory), None

    @jax.jit
    def learn(alpha):
        keys = jax.random.split(jax.random.key(1), STEPS)
        return jax.lax.scan(step, (alpha, adam.init(alpha)), keys)[0][0]

    before = PRIOR.init(jax.random.key(0))
    return before, learn(before)


@jax.jit
def log_probs(alpha, z):
    """log q_alpha and log p of z [N, 2]."""
    prepared = PRIOR.prepare(alpha)
    of_flow = jax.vmap(lambda z: PRIOR._flow().log_prob(prepared["flow"], z))(z)
    return of_flow, jax.vmap(lambda z: PRIOR.log_prob(prepared, z))(z)


def test_the_tilt_learns_the_log_ratio_and_its_constant():
    """h against log p+ - log q at draws of both, and the integral of q exp(h), which is 1 at c."""
    _, alpha = learned()
    of_flow, of_prior = map(np.asarray, log_probs(alpha, GRID))
    ratio, h = log_density(GRID) - of_flow, of_prior - of_flow
    weights = np.exp(of_flow) + np.exp(log_density(GRID))
    weights /= weights.sum()

    def deviation(values):
        return np.sqrt(weights @ np.square(values - weights @ values))

    error = np.sqrt(weights @ np.square(h - np.clip(ratio, -5, 5)))
    assert error < 0.6 * deviation(np.clip(ratio, -5, 5))
    assert np.sum(np.exp(of_prior)) * CELL == pytest.approx(1, abs=0.1)


def test_the_error_of_the_log_density_falls_below_that_of_the_flow_alone():
    before, after = learned()
    z = np.asarray(draw(jax.random.key(2), 2000))
    (_, first), (of_flow, of_prior) = (map(np.asarray, log_probs(a, z)) for a in (before, after))
    errors = [np.mean(np.abs(found - log_density(z))) for found in (first, of_flow, of_prior)]
    assert errors[2] < 0.5 * errors[1] < 0.5 * errors[0]


def test_samples_tend_to_the_tilted_density_from_the_flow():
    """The share of draws between the two modes, chosen among one and among 256 proposals."""
    alpha = learned()[1]
    keys = jax.random.split(jax.random.key(3), 5000)

    def share(num_proposals):
        prior = dataclasses.replace(PRIOR, num_proposals=num_proposals)
        prepared = prior.prepare(alpha)
        z = jax.jit(jax.vmap(lambda key: prior.sample(prepared, key)))(keys)
        return np.mean(np.abs(z[:, 0]) < 0.4)

    between = np.abs(GRID[:, 0]) < 0.4
    densities = (np.exp(np.asarray(values, float)) for values in log_probs(alpha, GRID))
    of_flow, of_prior = (p[between].sum() / p.sum() for p in densities)
    assert of_flow > 3 * of_prior
    assert share(1) == pytest.approx(of_flow, abs=5 * np.sqrt(of_flow / 5000))
    assert share(256) == pytest.approx(of_prior, abs=5 * np.sqrt(of_prior / 5000))


def test_the_flow_learns_by_maximum_likelihood_and_the_tilt_by_the_logistic_loss():
    with jax.enable_x64(True):
        alpha, key = invented(PRIOR.init, scale=0.5), jax.random.key(2)
        z = jnp.array([0.3, -1.2])
        found = jax.jit(jax.grad(lambda a: PRIOR.loss(PRIOR.prepare(a), key, z)))(alpha)
        flow = PRIOR._flow()

        def of_flow(alpha):
            return -flow.log_prob(flow.prepare(alpha), z)

        negative = flow.sample(flow.prepare(alpha["flow"]), key)

        def h(tilt, z):
            prepared = PRIOR.prepare({**alpha, "tilt": tilt})
            return PRIOR.log_prob(prepared, z) - flow.log_prob(prepared["flow"], z)

        (at_z, up), (at_draw, down) = (
            jax.value_and_grad(h)(alpha["tilt"], point) for point in (z, negative)
        )
        logistic = jax.tree.map(
            lambda up, down: down / (1 + np.exp(-at_draw)) - up / (1 + np.exp(at_z)), up, down
        )
        assert_close(found["flow"], jax.grad(of_flow)(alpha["flow"]), roundings=1000)
        assert_close(found["tilt"], logistic, roundings=1e4)


def test_a_sample_without_a_draw_within_the_ball_is_nan():
    alpha = PRIOR.init(jax.random.key(0))
    alpha["flow"]["actnorm"]["log_scale"] -= 3.0  # draws are e^9 times as long, but finite
    prepared = PRIOR.prepare(alpha)
    assert jnp.isfinite(PRIOR._flow().sample(prepared["flow"], jax.random.key(1))).all()
    assert jnp.isnan(PRIOR.sample(prepared, jax.random.key(1))).all()


def test_a_draw_that_overflows_is_left_out(monkeypatch):
    alpha = invented(PRIOR.init, scale=0.5)
    overflows = jax.tree.map(jnp.copy, alpha)
    overflows["flow"]["actnorm"]["log_scale"] -= 100.0  # the inverse multiplies by exp(300)
    key, z, flow = jax.random.key(2), jnp.array([0.3, -1.2]), PRIOR._flow()
    assert not jnp.isfinite(flow.sample(flow.prepare(overflows["flow"]), key)).all()

    def of_tilt(tilt):
        return PRIOR.loss(PRIOR.prepare({**overflows, "tilt": tilt}), key, z)

    def logistic_at_z(tilt):
        return jax.nn.softplus(-PRIOR._h({"tilt": tilt}, z))

    found, expected = (jax.grad(f)(overflows["tilt"]) for f in (of_tilt, logistic_at_z))
    assert_close(found, expected, roundings=10)

    monkeypatch.setattr(fce, "RADIUS", 0.5)
    keys, prepared = jax.random.split(key, 200), PRIOR.prepare(alpha)
    lengths = jnp.linalg.norm(jax.vmap(lambda key: PRIOR.sample(prepared, key))(keys), axis=1)
    assert 0.5 < lengths.max() <= 0.5 * 2**0.5


@pytest.mark.parametrize("settings", [{"tilt_width": 0}, {"num_proposals": 0}, {"num_steps": 0}])
def test_bad_settings(settings):
    with pytest.raises(UserError, match=f"prior.{next(iter(settings))}=0"):
        Prior(4, **settings)
