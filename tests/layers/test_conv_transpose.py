"""The fast transposed convolution against its definition, in value and all gradients."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.layers.conv_transpose import (
    ConvTranspose,
    conv_transpose,
    overlap_add,
    reference,
    winograd,
)

# kernel size, stride, padding, in channels, out channels, height, width
CASES = [
    (4, 2, 1, 3, 16, 4, 4),  # these three by Winograd's form
    (4, 2, 1, 5, 17, 6, 8),
    (4, 2, 1, 2, 16, 3, 2),
    (4, 2, 1, 5, 3, 6, 8),
    (4, 2, 1, 6, 1, 5, 3),
    (4, 2, 1, 1, 4, 2, 2),
    (4, 1, 0, 7, 4, 1, 1),
    (8, 1, 0, 5, 3, 1, 1),
    (3, 1, 1, 4, 3, 5, 6),
    (3, 1, 1, 3, 1, 1, 4),
    (3, 2, 1, 3, 2, 5, 4),
    (3, 2, 0, 1, 3, 3, 3),
    (4, 1, 2, 3, 1, 5, 5),
    (8, 2, 3, 1, 2, 5, 3),
    (5, 3, 1, 2, 3, 3, 2),
    (4, 2, 1, 2, 3, 1, 2),
]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def draw(case, seed=0):
    kernel_size, stride, padding, channels, features, height, width = case
    random = np.random.default_rng(seed)
    x = jnp.asarray(random.normal(size=(height, width, channels)))
    kernel = jnp.asarray(random.normal(size=(kernel_size, kernel_size, channels, features)))
    out = [(n - 1) * stride - 2 * padding + kernel_size for n in (height, width)]
    g = jnp.asarray(random.normal(size=(*out, features)))
    return x, kernel, g, stride, padding


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_equal_the_definition(case):
    x, kernel, g, stride, padding = draw(case)

    def fast(x, kernel):
        return conv_transpose(x, kernel, stride=stride, padding=padding)

    def plain(x, kernel):
        return reference(x, kernel, stride, padding)

    def value_and_gradients(function):
        value, pull_back = jax.vjp(function, x, kernel)
        return value, *pull_back(g)

    ours = jax.jit(value_and_gradients, static_argnums=0)(fast)
    wanted = value_and_gradients(plain)  # Not compiled: its many taps would take long.
    assert ours[0].shape == g.shape
    for one, other in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("case", CASES)
def test_the_form_of_other_platforms_equals_the_definition(case, monkeypatch):
    """Value and gradients by XLA's convolution, as on GPUs and TPUs, run on this CPU."""
    branches = []

    def of_another_platform(*arguments, cpu, default):
        branches.append(default)
        return default(*arguments)

    monkeypatch.setattr(jax.lax, "platform_dependent", of_another_platform)
    x, kernel, g, stride, padding = draw(case)
    layer = ConvTranspose(case[0], stride, padding, *kernel.shape[2:], x.shape[:2])

    # Where the weights are constant, as in the chain, and where they are learned.
    def along_x(x):
        return layer.apply(jax.lax.stop_gradient(layer.prepare(kernel)), x)

    def along_both(x, kernel):
        return layer.apply(layer.prepare(kernel), x)

    value, x_gradient, kernel_gradient = by_taps(x, kernel, g, stride, padding)
    for function, arguments, gradients in (
        (along_x, (x,), (x_gradient,)),
        (along_both, (x, kernel), (x_gradient, kernel_gradient)),
    ):
        found, pull_back = jax.vjp(function, *arguments)
        for one, other in zip((found, *pull_back(g)), (value, *gradients), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
    # One pixel is a product on every platform.
    assert len(branches) >= 4 or layer.input_shape == (1, 1)


def by_taps(x, kernel, g, stride, padding):
    """y[s i + k - p] += x[i] W[k] and the gradients of <g, y>, in NumPy's loops."""
    x, kernel, g = map(np.asarray, (x, kernel, g))
    y, of_x, of_kernel = np.zeros_like(g), np.zeros_like(x), np.zeros_like(kernel)
    for i, j, k, m in np.ndindex(*x.shape[:2], *kernel.shape[:2]):
        row, column = stride * i + k - padding, stride * j + m - padding
        if 0 <= row < g.shape[0] and 0 <= column < g.shape[1]:
            y[row, column] += x[i, j] @ kernel[k, m]
            of_x[i, j] += kernel[k, m] @ g[row, column]
            of_kernel[k, m] += np.outer(x[i, j], g[row, column])
    return y, of_x, of_kernel


@pytest.mark.parametrize("case", CASES[1::6])
def test_second_derivatives_equal_the_definition(case):
    """A gradient penalty differentiates the gradient in z with respect to z and the weights."""
    x, kernel, g, stride, padding = draw(case)

    def penalty(function):
        def inner(x, kernel):
            return jnp.sum(g * jnp.tanh(function(x, kernel)))

        def outer(x, kernel):
            return jnp.sum(jnp.sin(jax.grad(inner)(x, kernel)))

        return jax.grad(outer, argnums=(0, 1))

    ours = jax.jit(penalty(lambda x, k: conv_transpose(x, k, stride=stride, padding=padding)))
    wanted = penalty(lambda x, k: reference(x, k, stride, padding))
    ours, wanted = ours(x, kernel), wanted(x, kernel)
    for one, other in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES[::6])
def test_a_batch_is_its_examples(case):
    x, kernel, g, stride, padding = draw(case)
    batch = jnp.stack([x, 2 * x + 1, -x])

    def loss(kernel, batch, apply):
        return jnp.sum(g[None] * jnp.tanh(apply(batch, kernel)))

    def one_by_one(batch, kernel):
        return jnp.stack([reference(x, kernel, stride, padding) for x in batch])

    def mapped(batch, kernel):
        return jax.vmap(lambda x: conv_transpose(x, kernel, stride=stride, padding=padding))(batch)

    gradients = jax.grad(loss, argnums=(0, 1))
    ours = jax.jit(gradients, static_argnums=2)(kernel, batch, mapped)
    wanted = gradients(kernel, batch, one_by_one)
    for one, other in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [(4, 2, 1, 128, 64, 8, 8), (4, 2, 1, 32, 3, 16, 16)])
def test_float32_stays_at_float_rounding(case):
    x, kernel, _, stride, padding = draw(case)
    layer = ConvTranspose(case[0], stride, padding, *kernel.shape[2:], x.shape[:2])
    low = jax.jit(jax.vmap(lambda x, k: layer.apply(layer.prepare(k), x), (0, None)))(
        x[None].astype(jnp.float32), kernel.astype(jnp.float32)
    )[0]
    exact = reference(x, kernel, stride, padding)
    # A sum of `depth` products of unit normals, each rounded: some units of 2^-24 * depth.
    depth = 4 * kernel.shape[2]
    assert jnp.max(jnp.abs(low - exact)) < 8 * 2**-24 * depth


def test_each_layer_of_the_paper_gets_its_form():
    def form(features, kernel_size, stride, padding, side, dtype=jnp.float32):
        layer = ConvTranspose(kernel_size, stride, padding, 8, features, (side, side))
        return layer._form(jnp.dtype(dtype))

    assert form(256, 4, 2, 1, 4) is winograd
    assert form(16, 4, 2, 1, 4) is winograd
    assert form(15, 4, 2, 1, 4) is overlap_add
    assert form(3, 4, 2, 1, 16) is overlap_add
    assert form(1024, 8, 1, 0, 1) is overlap_add
    assert form(64, 4, 2, 1, 7) is winograd
    assert form(3, 3, 1, 1, 32) is overlap_add
    assert form(256, 4, 2, 1, 4, jnp.bfloat16) is overlap_add


@pytest.mark.parametrize("features", [16, 3])
def test_a_chain_computes_no_weight_gradient_and_lays_out_no_weights(features):
    """No array in the scan's body is as large as the kernel; this does not depend on XLA."""
    layer = ConvTranspose(4, 2, 1, 24, features, (2, 2))
    kernel, x = jnp.ones(layer.kernel_shape), jnp.ones((1, 2, 2, 24))

    def chain(prepared, x):
        def step(x, _):
            gradient = jax.grad(lambda x: jnp.sum(jnp.square(layer.apply(prepared, x))))
            return x - 0.1 * jax.vmap(gradient)(x), None

        return jax.lax.scan(step, x, None, length=7)[0]

    # The program before XLA optimises it.
    text = jax.jit(chain).lower(layer.prepare(kernel), x).as_text()
    operations = re.findall(r"= stablehlo\.(\w+) .*tensor<([0-9x]+)xf64>$", text, re.MULTILINE)
    sizes = [(math.prod(map(int, shape.split("x"))), name) for name, shape in operations]
    assert "dot_general" in [name for _, name in sizes]
    assert max(sizes)[0] < kernel.size / 4, max(sizes)
