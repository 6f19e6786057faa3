"""The network of an image and a vector against NumPy, and the spectral norm against the SVD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.layers import spectral_norm
from lfbm_jax.layers.image_and_vector import ImageAndVector


def test_the_features_of_the_image_join_the_vector():
    """With a convolution of the whole image, every layer is a matrix."""
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        network = ImageAndVector(((5, 4, 1, 0),), width=6, hidden_width=7)
        image, z = random.normal(size=(4, 4, 2)), random.normal(size=3)
        parameters = network.init(jax.random.key(0), jnp.asarray(image), jnp.asarray(z))
        parameters = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), parameters)
        found = jax.jit(network.apply)(parameters, image, z)

    def dense(layer, x):
        return x @ layer["kernel"].reshape(-1, layer["bias"].size) + layer["bias"]

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    convolutions, *perceptron = (
        parameters["params"][name] for name in ("Convolutions_0", "Dense_0", "Dense_1")
    )
    features = leaky(dense(convolutions["Conv_0"], image.ravel()))
    features = leaky(dense(convolutions["Dense_0"], features))
    hidden = leaky(dense(perceptron[0], np.concatenate([features, z])))
    np.testing.assert_allclose(found, dense(perceptron[1], hidden)[0], rtol=1e-10)
    assert found.shape == ()


@pytest.mark.parametrize("shape", [(3, 3, 4, 5), (5, 7)])
def test_a_normalized_kernel_has_the_largest_singular_value_one(shape):
    with jax.enable_x64(True):
        kernel = np.random.default_rng(0).normal(size=shape)
        found = jax.jit(spectral_norm.normalized)(kernel)
        largest = np.linalg.svd(kernel.reshape(-1, shape[-1]))[1][0]
        np.testing.assert_allclose(found, kernel / largest, rtol=1e-10)
        np.testing.assert_array_equal(spectral_norm.normalized(kernel.ravel()), kernel.ravel())
