"""The convolutional generator against NumPy, and its settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.generators.convnet import Generator
from tests.builders import invented

# As in the paper's tables: a first layer of stride 1 and padding 0, doublings, and CIFAR-10's
# last layer with kernel 3.
LAYERS = ((4, 2, 1, 0), (3, 4, 2, 1), (2, 3, 1, 1))
SHAPE = (4, 4, 2)


def generator(dtype=None):
    return Generator(5, SHAPE, dtype, LAYERS)


def decode(generator, beta, z):
    return jax.jit(lambda beta, z: generator.apply(generator.prepare(beta), z))(beta, z)


def numpy_decode(beta, z):
    """Every input pixel adds its multiple of the kernel; then the edges are cut off."""
    image = z[None, None, :]
    for i, (features, size, stride, padding) in enumerate(LAYERS):
        kernel, bias = beta[f"layer_{i}"]["kernel"], beta[f"layer_{i}"]["bias"]
        side = (len(image) - 1) * stride + size
        full = np.zeros((side, side, features))
        for row, column, k, m in np.ndindex(len(image), len(image), size, size):
            full[row * stride + k, column * stride + m] += image[row, column] @ kernel[k, m]
        image = full[padding : side - padding, padding : side - padding] + bias
        image = np.where(image > 0, image, 0.2 * image) if i < len(LAYERS) - 1 else np.tanh(image)
    return image


def test_it_is_a_chain_of_transposed_convolutions():
    z = np.random.default_rng(0).normal(size=5)
    with jax.enable_x64(True):
        beta = invented(generator().init, scale=0.6)
        image = decode(generator(), beta, z)
    assert image.shape == SHAPE and image.dtype == np.float64
    np.testing.assert_allclose(image, numpy_decode(jax.tree.map(np.asarray, beta), z), rtol=1e-11)
    assert np.std(np.asarray(image)) > 0.2, "the case says nothing"


def test_images_stay_in_range_however_large_z():
    beta = invented(generator().init, scale=0.6)
    image = decode(generator(), beta, 1e6 * jnp.ones(5))
    assert np.max(np.abs(image)) <= 1 and np.isfinite(image).all()


def test_bfloat16_computes_coarsely_and_keeps_the_rest_float32():
    beta = invented(generator().init, scale=0.6)
    z = jnp.linspace(-1, 1, 5)
    fine, coarse = (decode(generator(dtype), beta, z) for dtype in (None, jnp.bfloat16))
    assert coarse.dtype == jnp.float32
    difference = np.max(np.abs(fine - coarse))
    assert 1e-5 < difference < 0.05

    @jax.jit
    @jax.grad
    def gradient(beta):
        half = generator(jnp.bfloat16)
        return jnp.sum(half.apply(half.prepare(beta), z))

    assert {leaf.dtype for leaf in jax.tree.leaves(gradient(beta))} == {jnp.dtype("float32")}


def test_bfloat16_sums_no_gradient_in_bfloat16():
    """The last bias sums 64 x 64 pixels; a bfloat16 sum of ones would stop at 256."""
    layers = ((8, 16, 1, 0), (4, 4, 2, 1), (1, 4, 2, 1))
    z = jnp.linspace(-1, 1, 5)

    def gradient(dtype):
        generator = Generator(5, (64, 64, 1), dtype, layers)
        beta = invented(generator.init, scale=0.2)
        total = lambda beta: jnp.sum(generator.apply(generator.prepare(beta), z))  # noqa: E731
        return jax.jit(jax.grad(total))(beta)

    fine, coarse = gradient(None), gradient(jnp.bfloat16)
    for layer, of_layer in fine.items():
        for name, expected in of_layer.items():
            error = np.linalg.norm(coarse[layer][name] - expected) / np.linalg.norm(expected)
            assert error < 8 * 2**-7, (layer, name)


def test_init_is_xavier_normal_with_uniform_biases():
    layers = ((200, 2, 1, 0), (160, 4, 2, 1), (1, 4, 2, 1))
    beta = jax.jit(Generator(100, (8, 8, 1), None, layers).init)(jax.random.key(0))
    fans = ((100, 200), (200, 160), (160, 1))
    for i, ((features, size, *_), (fan_in, fan_out)) in enumerate(zip(layers, fans, strict=True)):
        kernel, bias = beta[f"layer_{i}"]["kernel"], beta[f"layer_{i}"]["bias"]
        assert kernel.shape == (size, size, fan_in, features)
        expected = np.sqrt(2 / (size**2 * (fan_in + fan_out)))
        assert np.std(kernel) == pytest.approx(expected, rel=0.05)
        assert np.max(np.abs(kernel)) > 2.5 * expected, "not normal"
        bound = 1 / np.sqrt(size**2 * features)
        assert bias.shape == (features,)
        assert np.max(np.abs(bias)) <= bound
        if features > 100:
            assert np.min(bias) < -0.9 * bound and np.max(bias) > 0.9 * bound


def test_operations_of_one_image():
    inputs = ((1, 5), (2, 4), (4, 3))
    products = sum(
        side**2 * channels * size**2 * features
        for (side, channels), (features, size, *_) in zip(inputs, LAYERS, strict=True)
    )
    assert generator().flops() == 2 * products


@pytest.mark.parametrize(
    ("shape", "layers", "named"),
    (
        ((32, 32, 3), LAYERS, r"\(4, 4, 2\).*\(32, 32, 3\)"),
        (SHAPE, (), "generator.layers"),
        (SHAPE, ((4, 2, 1),), "features, kernel size, stride"),
        (SHAPE, ((4, 0, 1, 0), *LAYERS[1:]), "positive"),
        (SHAPE, ((4, 2, 0, 0), *LAYERS[1:]), "positive"),
        (SHAPE, ((4, 2, 1, -1), *LAYERS[1:]), "positive"),
        (SHAPE, ((0, 2, 1, 0), *LAYERS[1:]), "positive"),
    ),
)
def test_layers_that_cannot_be_built(shape, layers, named):
    with pytest.raises(UserError, match=named):
        Generator(5, shape, None, layers)


def test_spectral_norm_divides_every_kernel_by_its_largest_singular_value():
    layers = ((3, 2, 1, 0), (4, 4, 2, 1), (1, 4, 2, 1))
    plain = Generator(5, (8, 8, 1), None, layers)
    normalized = Generator(5, (8, 8, 1), None, layers, spectral_norm=True)
    beta = invented(plain.init)
    z = jnp.arange(5.0)
    by_hand = {
        name: {
            **layer,
            "kernel": layer["kernel"]
            / np.linalg.norm(layer["kernel"].reshape(-1, layer["kernel"].shape[-1]), 2),
        }
        for name, layer in beta.items()
    }
    found = normalized.apply(normalized.prepare(beta), z)
    np.testing.assert_allclose(found, plain.apply(plain.prepare(by_hand), z), atol=1e-6)
