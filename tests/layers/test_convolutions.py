"""The encoder's convolution against XLA's own, in value and gradients."""

import jax
import numpy as np
import pytest

from lfbm_jax.layers.convolutions import convolve


@pytest.mark.parametrize(
    ("side", "kernel_size", "stride", "padding"),
    [(8, 4, 2, 1), (7, 3, 1, 1), (9, 4, 3, 0), (7, 7, 1, 0), (7, 6, 3, 1)],
)
def test_convolution_is_the_library_s(side, kernel_size, stride, padding):
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = random.normal(size=(2, side, side, 3))
        kernel = random.normal(size=(kernel_size, kernel_size, 3, 5))
        strides, around = (stride, stride), [(padding, padding)] * 2
        numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, ("NHWC", "HWIO", "NHWC"))

        def compare(convolution):
            def total(x, kernel):
                y = convolution(x, kernel, strides, around, dimension_numbers=numbers)
                return (y**2 * np.arange(y.size).reshape(y.shape)).sum(), y

            return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(x, kernel)

        found, expected = compare(convolve), compare(jax.lax.conv_general_dilated)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
