"""The FID network against one in NumPy, on random weights; pytorch-fid's is in peers/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from lfbm_jax.errors import UserError
from lfbm_jax.metrics import inception
from tests.metrics import numpy_inception, random_inception


@pytest.fixture(scope="module")
def state():
    return random_inception.state_dict()


def test_features_have_their_shape_and_every_array_is_used(state):
    parameters = inception.parameters_of(state)
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    convolutions = sum(array.size for name, array in state.items() if "conv.weight" in name)
    biases = sum(array.size for name, array in state.items() if "bn.bias" in name)
    assert count == convolutions + biases
    for shape in ((2, 32, 32, 3), (2, 28, 28, 1)):
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        assert jax.eval_shape(inception.features, parameters, x).shape == (2, 2048)


def test_batch_normalisation_becomes_part_of_the_convolution(state):
    parameters = inception.parameters_of(state)
    name = "Conv2d_1a_3x3"
    x = np.random.default_rng(0).normal(size=(5, 5, 3))
    maps = [
        sum(scipy.signal.correlate2d(x[..., i], kernel[i], "valid") for i in range(3))
        for kernel in state[f"{name}.conv.weight"].astype(float)
    ]
    gamma, beta, mean, variance = (
        state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    expected = (np.stack(maps, axis=-1) - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    kernel, bias = parameters[name]["kernel"], parameters[name]["bias"]
    found = jax.lax.conv_general_dilated(
        jnp.asarray(x[None], jnp.float32), kernel, (1, 1), "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=jax.lax.Precision.HIGHEST,
    )
    np.testing.assert_allclose(np.asarray(found[0]) + np.asarray(bias), expected, atol=1e-5)


def test_averages_leave_the_padding_out_and_the_last_block_takes_maxima():
    ones = jnp.ones((1, 4, 4, 2))
    np.testing.assert_array_equal(inception._average(ones), ones)
    x = jnp.zeros((1, 8, 8, 3)).at[0, 4, 4].set(1)

    spread = inception._maximum(x)
    np.testing.assert_array_equal(spread[0, 3:6, 3:6], np.ones((3, 3, 3)))
    assert spread.sum() == 27
    np.testing.assert_allclose(inception._average(x).sum(), 3, rtol=1e-6)


def test_features_are_those_of_the_network_in_numpy(state):
    """At 139 x 139 pixels, so at 15 x 15, 7 x 7 and 3 x 3: every kernel and pool has neighbours."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (139, 139, 3))
    expected = numpy_inception.features(state, x.transpose(2, 0, 1))
    parameters = inception.parameters_of(state)
    apply = jax.jit(lambda parameters, x: inception.Inception().apply({"params": parameters}, x))
    (found,) = apply(parameters, jnp.asarray(x[None], jnp.float32))
    # 47 layers deep; each rounds sums of up to 3,456 products, and errors add at random.
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 47 * 2**-24, error


@pytest.mark.parametrize("side", [28, 64, 320])
def test_images_are_resized_by_linear_interpolation(side, monkeypatch):
    seen = {}

    class Looks:
        def apply(self, _, x):
            seen["x"] = x

    monkeypatch.setattr(inception, "Inception", Looks)
    x = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    inception.features({}, jnp.asarray(x))
    for found, image in zip(seen["x"], x, strict=True):
        expected = numpy_inception.resized(image.transpose(2, 0, 1).astype(float), 299)
        # A place among `side` pixels is rounded; neighbours differ by up to 2, in rows and columns.
        atol = 4 * side * 2**-24
        np.testing.assert_allclose(np.moveaxis(found, 2, 0), expected, rtol=0, atol=atol)


def test_missing_and_misshapen_arrays_are_named(state):
    name = "Mixed_6b.branch7x7_2.conv.weight"
    with pytest.raises(UserError, match=f"{name} is missing"):
        inception.parameters_of({k: v for k, v in state.items() if k != name})
    with pytest.raises(UserError, match=rf"{name} has shape \(128, 128, 7, 1\)"):
        inception.parameters_of(state | {name: state[name].swapaxes(2, 3)})
