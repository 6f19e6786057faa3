"""Levels of stored images and x of the model."""

import jax.numpy as jnp
import numpy as np

from lfbm_jax.images import pixels

LEVELS = np.arange(256, dtype=np.uint8)
X = LEVELS / 127.5 - 1


def test_levels_are_spread_evenly_over_minus_one_to_one():
    assert (X[0], X[-1]) == (-1, 1)
    np.testing.assert_array_equal(pixels.from_uint8(LEVELS), X)
    np.testing.assert_allclose(pixels.to_unit_range(jnp.asarray(LEVELS)), X, atol=2**-23)


def test_x_in_floating_point_stays_as_it_is():
    x = jnp.asarray([-1, 0.25, 1])
    np.testing.assert_array_equal(pixels.to_unit_range(x), x)


def test_x_is_rounded_to_the_nearest_level_and_clipped():
    step = 1 / 127.5
    for shift in (-0.49, 0, 0.49):
        np.testing.assert_array_equal(pixels.to_uint8(X + shift * step), LEVELS)
    np.testing.assert_array_equal(pixels.to_uint8(np.array([-3, 3])), [0, 255])


def test_hidden_pixels_are_grey():
    x, mask = jnp.asarray([[-1.0, 0.5]]), jnp.asarray([[0, 1]])
    np.testing.assert_array_equal(pixels.occlude(x, mask), [[0, 0.5]])
    assert pixels.occlude(x, None) is x
