"""Every bijector is invertible, and its log-determinant is that of its Jacobian matrix."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.layers import bijectors

TOLERANCE = {"float64": 1e-11, "float32": 3e-5}


@pytest.fixture(params=TOLERANCE)
def tolerance(request):
    """Runs a test in both precisions."""
    with jax.enable_x64(request.param == "float64"):
        yield TOLERANCE[request.param]


def normal(*shape, seed=0):
    """Standard normal numbers in the precision of the test."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def actnorm(d):
    return bijectors.ActNorm(normal(d), 0.2 * normal(d, seed=1))


def linear(d, sign=1):
    matrix = np.linalg.qr(normal(d, d))[0] + 0.2 * normal(d, d, seed=1)
    matrix = matrix.at[0].multiply(sign * np.sign(np.linalg.det(matrix)))
    return bijectors.InvertibleLinear(matrix, jnp.asarray(np.linalg.slogdet(matrix)[1]))


def mirroring_linear(d):
    return linear(d, sign=-1)


def coupling(d):
    weights = normal(d // 2, 2 * (d - d // 2))
    return bijectors.AffineCoupling(lambda first: jnp.split(jnp.sin(first @ weights + 0.3), 2))


each_layer = pytest.mark.parametrize(
    "make", (actnorm, linear, mirroring_linear, coupling), ids=lambda make: make.__name__
)
each_size = pytest.mark.parametrize("d", (4, 5))


@each_layer
@each_size
def test_round_trip_and_log_det_of_the_jacobian(make, d, tolerance):
    layer = make(d)

    @jax.jit
    def evaluate(x):
        return {
            "forward": (*layer.forward_and_log_det(x), jax.jacfwd(layer.forward)(x)),
            "inverse": (*layer.inverse_and_log_det(x), jax.jacfwd(layer.inverse)(x)),
            "round trips": (layer.inverse(layer.forward(x)), layer.forward(layer.inverse(x))),
        }

    x = 2 * normal(d, seed=2)
    found = evaluate(x)
    for back in found.pop("round trips"):
        assert back.dtype == x.dtype
        np.testing.assert_allclose(back, x, rtol=0, atol=10 * tolerance)
    for there, (value, log_det, jacobian) in found.items():
        assert np.max(np.abs(value - x)) > 0.1, "the layer does nothing"
        assert log_det.shape == () and log_det.dtype == x.dtype
        expected = np.linalg.slogdet(np.asarray(jacobian, float))[1]
        assert abs(expected) > 0.05, "the case says nothing"
        np.testing.assert_allclose(log_det, expected, rtol=0, atol=tolerance, err_msg=there)


@each_layer
def test_vmap_and_jit_change_nothing(make, tolerance):
    layer = make(5)
    x = normal(3, 5, seed=3)
    z0, log_det = jax.jit(jax.vmap(layer.inverse_and_log_det))(x)
    for i, row in enumerate(x):
        alone, log_det_alone = layer.inverse_and_log_det(row)
        np.testing.assert_allclose(z0[i], alone, rtol=0, atol=tolerance)
        np.testing.assert_allclose(log_det[i], log_det_alone, rtol=0, atol=tolerance)


@each_layer
def test_a_transformed_distribution_of_distrax_has_the_density_by_hand(make, tolerance):
    """distrax checks that layer and base act on as many axes, and adds the log-determinant."""
    layer, x = make(4), normal(4, seed=3)
    base = distrax.MultivariateNormalDiag(jnp.zeros(4))
    z0, log_det = layer.inverse_and_log_det(x)
    expected = -0.5 * np.sum(np.square(z0)) - 2 * np.log(2 * np.pi) + log_det
    found = distrax.Transformed(base, layer).log_prob(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * tolerance)


def test_actnorm_adds_before_it_multiplies_by_thrice_the_log_scale():
    layer = bijectors.ActNorm(jnp.array([1.0, -2.0]), jnp.array([0.0, np.log(2) / 3]))
    np.testing.assert_allclose(layer.inverse(jnp.array([3.0, 5.0])), [4.0, 6.0], rtol=1e-6)


def test_linear_multiplies_from_the_right():
    matrix = jnp.array([[2.0, 1.0], [0.0, 3.0]])
    layer = bijectors.InvertibleLinear(matrix, jnp.log(6.0))
    np.testing.assert_allclose(layer.inverse(jnp.array([1.0, 10.0])), [2.0, 31.0], rtol=1e-6)


@each_size
def test_coupling_formula(d):
    """z0 = [z1, (z2 + shift(z1)) exp(log_scale(z1))], and z1 does choose the map."""
    steps = np.arange(d - d // 2)
    layer = bijectors.AffineCoupling(
        lambda first: (jnp.sum(first) + steps, jnp.prod(first) - steps)
    )
    z = np.linspace(-1.2, 1.7, d)
    first, second = z[: d // 2], z[d // 2 :]
    expected = (second + np.sum(first) + steps) * np.exp(np.prod(first) - steps)
    z0 = layer.inverse(jnp.array(z))
    np.testing.assert_array_equal(z0[: d // 2], jnp.array(first))
    np.testing.assert_allclose(z0[d // 2 :], expected, rtol=1e-5, atol=1e-6)


def test_coupling_log_det_stays_finite_where_the_scale_underflows():
    layer = bijectors.AffineCoupling(lambda first: (first, jnp.array([-300.0])))
    z0, log_det = layer.inverse_and_log_det(jnp.array([0.5, 1.0]))
    assert np.isfinite(z0).all()
    np.testing.assert_allclose(log_det, -300.0, rtol=1e-6)


def test_reverse_is_its_own_inverse_and_keeps_volumes():
    layer, x = bijectors.Reverse(), jnp.arange(5.0)
    for turned, log_det in (layer.forward_and_log_det(x), layer.inverse_and_log_det(x)):
        np.testing.assert_array_equal(turned, [4, 3, 2, 1, 0])
        assert log_det == 0
