"""Inverse autoregressive flow: masks that are autoregressive and a density that is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from lfbm_jax.errors import UserError
from lfbm_jax.inference import encoder
from lfbm_jax.inference.iaf import Inference
from lfbm_jax.model import Example
from tests.builders import invented

D, SHAPE = 5, (4, 4, 1)
IAF = Inference(D, SHAPE, None, ((2, 4, 2, 1),), flow_steps=3, hidden_width=7)
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-1, 1, SHAPE)
EXAMPLE = Example(X, 0, 1.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def phi():
    return invented(IAF.init, scale=0.7)


def first_step(phi):
    return jax.tree.map(lambda leaf: leaf[0], phi["flow"])


def test_every_output_sees_all_entries_before_it_and_no_other(phi):
    jacobian = jax.jit(jax.jacfwd(lambda z: IAF.autoregressive(first_step(phi), z)))
    points = RANDOM.normal(size=(20, D))
    seen = np.max([np.abs(jacobian(z)) for z in points], axis=0)  # relu may be off at one point
    assert seen.shape == (2, D, D)
    for of_output in seen:
        np.testing.assert_array_equal(of_output > 0, np.tril(np.ones((D, D)), -1) > 0)


def test_a_step_gates_between_the_reversed_z_and_the_shift(phi):
    """z' = sigma(raw + 2) r(z) + (1 - sigma(raw + 2)) m: section 4 of Kingma et al. (2016)."""
    z = RANDOM.normal(size=D)
    shift, raw = IAF.autoregressive(first_step(phi), z[::-1])
    gate = scipy.special.expit(raw + 2)
    found, log_scale = IAF.step(first_step(phi), z)
    np.testing.assert_allclose(found, gate * z[::-1] + (1 - gate) * shift, rtol=1e-12)
    np.testing.assert_allclose(log_scale, np.log(gate), rtol=1e-12)


def test_operations_of_the_flow_are_added_to_the_encoders():
    """Per step the products of d x width, and of width x 2 d."""
    without = encoder.Inference(D, SHAPE, None, IAF.layers).flops()
    assert IAF.flops() == without + 3 * (2 * D * 7 + 2 * 7 * 2 * D)


def test_log_q_is_the_density_by_change_of_variables(phi):
    """slogdet of the Jacobian of noise -> z, at perturbed parameters, against log_q."""

    @jax.jit
    def infer(key):
        return IAF.infer(phi, key, EXAMPLE, None)

    mean, deviation = IAF.moments(phi, X)

    def flow(noise):
        z = mean + deviation * noise
        for i in range(IAF.flow_steps):
            z = IAF.step(jax.tree.map(lambda leaf, i=i: leaf[i], phi["flow"]), z)[0]
        return z

    jacobian = jax.jit(jax.jacfwd(flow))
    for seed in range(3):
        key = jax.random.key(seed)
        noise = jax.random.normal(key, (D,))
        found = infer(key)
        np.testing.assert_allclose(found.z, flow(noise), rtol=1e-12)
        log_det = np.linalg.slogdet(jacobian(noise))[1]
        expected = scipy.stats.norm.logpdf(noise).sum() - log_det
        np.testing.assert_allclose(found.log_q, expected, rtol=1e-10)
        assert abs(log_det) > 1, "the case says nothing"


def test_all_entries_come_to_depend_on_each_other(phi):
    """The order is reversed between steps, so that two already mix everything."""

    def flow(z):
        for i in range(2):
            z = IAF.step(jax.tree.map(lambda leaf, i=i: leaf[i], phi["flow"]), z)[0]
        return z

    jacobian = jax.jit(jax.jacfwd(flow))
    seen = np.max([np.abs(jacobian(z)) for z in RANDOM.normal(size=(20, D))], axis=0)
    assert np.count_nonzero(seen) > D * (D + 1) // 2


def test_one_dimension_works():
    """No entry comes before the only one: its scale and shift are free constants."""
    narrow = Inference(1, SHAPE, None, ((2, 4, 2, 1),), flow_steps=2, hidden_width=3)
    phi = invented(narrow.init)
    jacobian = jax.jacfwd(lambda z: narrow.autoregressive(first_step(phi), z))(jnp.ones(1))
    np.testing.assert_array_equal(jacobian, np.zeros((2, 1, 1)))


@pytest.mark.parametrize("settings", [{"flow_steps": 0}, {"hidden_width": 0}])
def test_bad_settings(settings):
    with pytest.raises(UserError, match=f"inference.{next(iter(settings))}=0: must be at least 1"):
        Inference(D, SHAPE, None, ((2, 4, 2, 1),), **settings)
