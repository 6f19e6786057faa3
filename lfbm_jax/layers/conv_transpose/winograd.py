"""Winograd's minimal filtering F(2, 2) for the kernel 4, stride 2, padding 1 of Tables 7 and 12.

Along one axis, output pixels 2j and 2j + 1 of such a layer are

    y[2j] = x[j-1] W3 + x[j] W1,        y[2j+1] = x[j] W2 + x[j+1] W0:

two filters of two taps. Two neighbouring results of a filter with taps a and b need only three
products instead of four (Winograd 1980, Arithmetic Complexity of Computations):

    u a + v b = (u - v) a + v (a + b),        v a + w b = v (a + b) - (v - w) b.

So a tile of two input and four output pixels needs six products of five combinations of x:

    x[j-1] - x[j] with W3;  x[j] - x[j+1] with -W1 and W2;  x[j+1] - x[j+2] with -W0;
    x[j] with W1 + W3;      x[j+1] with W0 + W2,                                     j even.

Along both axes, 36 products replace 64. The gradient in x is the transpose of this computation and
needs the same 36 products. All terms are sums or differences of two, so rounding errors are about
as large as in the direct form.

An odd number of rows or columns is padded with zeros. Everything here is for one image;
`layer` is a `conv_transpose.ConvTranspose`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.layers.conv_transpose.overlap_add import multiply, multiply_transposed

TILE = 4  # Output pixels of a tile, along one axis.
# The number of weights that each combination is multiplied by.
WIDTHS = (1, 2, 1, 1, 1)
# For every output pixel of a tile, the (combination, weight) of the two products that it sums.
OUTPUTS = (((0, 0), (3, 0)), ((1, 1), (4, 0)), ((3, 0), (1, 0)), ((4, 0), (2, 0)))


def suits(layer: Any) -> bool:
    """Whether this form can compute the layer."""
    several = all(side > 1 for side in layer.input_shape)
    return (layer.kernel_size, layer.stride, layer.padding) == (4, 2, 1) and several


def lay_out(layer: Any, kernel: jax.Array) -> dict:
    """The matrices of the products, and of their transposes, for a kernel [4, 4, C, D].

    There is one matrix [C, m n D] for each combination r of rows and c of columns. It holds their
    m n weights side by side.
    """
    del layer
    rows = [[_weights(row) for row in weights] for weights in _weights(kernel)]
    return {
        _name(r, c): jnp.concatenate([w for row in rows[r] for w in row[c]], axis=1)
        for r in range(len(WIDTHS))
        for c in range(len(WIDTHS))
    }


def forward(layer: Any, matrices: dict, x: jax.Array) -> jax.Array:
    """The layer's output [2 H, 2 W, D] for x [H, W, C]; `matrices` come from `lay_out`."""
    del layer
    height, width = x.shape[:2]
    x = jnp.pad(x, ((0, height % 2), (0, width % 2), (0, 0)))
    products = {}
    for r, rows in enumerate(_combinations(x, 0)):
        for c, image in enumerate(_combinations(rows, 1)):
            product = multiply(image, matrices[_name(r, c)])
            for i, part in enumerate(jnp.split(product, WIDTHS[r] * WIDTHS[c], axis=-1)):
                products[r, i // WIDTHS[c], c, i % WIDTHS[c]] = part
    tiles = [
        jnp.stack([sum(products[*r, *c] for r in rows for c in columns) for columns in OUTPUTS], 2)
        for rows in OUTPUTS
    ]  # TILE arrays [H / 2, W / 2, TILE, D]
    y = jnp.stack(tiles, 1).reshape(2 * x.shape[0], 2 * x.shape[1], -1)
    return y[: 2 * height, : 2 * width]


def backward(layer: Any, matrices: dict, g: jax.Array) -> jax.Array:
    """The gradient of <g, y> in x, [H, W, C]; `matrices` come from `lay_out`."""
    del layer
    height, width = g.shape[0] // 2, g.shape[1] // 2
    g = jnp.pad(g, ((0, -g.shape[0] % TILE), (0, -g.shape[1] % TILE), (0, 0)))
    images = []
    for r, rows in enumerate(_gradients(g, 0)):
        parts = [_gradients(row, 1) for row in rows]
        products = [
            multiply_transposed(
                jnp.concatenate([p for part in parts for p in part[c]], -1), matrices[_name(r, c)]
            )
            for c in range(len(WIDTHS))
        ]
        images.append(_transposed_combinations(products, 1))
    return _transposed_combinations(images, 0)[:height, :width]


def _weights(kernel: jax.Array) -> list[list[jax.Array]]:
    """The weights for each of the five combinations along the first axis."""
    w0, w1, w2, w3 = kernel
    return [[w3], [-w1, w2], [-w0], [w1 + w3], [w0 + w2]]


def _combinations(x: jax.Array, axis: int) -> list[jax.Array]:
    """The five combinations of x along an axis, each half as long as x."""
    padding = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
    padded, size = jnp.pad(x, padding), x.shape[axis]
    before, even, odd, after = (
        jax.lax.slice_in_dim(padded, i, i + size - 1, 2, axis) for i in range(4)
    )
    return [before - even, even - odd, odd - after, even, odd]


def _transposed_combinations(gradients: list[jax.Array], axis: int) -> jax.Array:
    """The gradient in x, given the gradients in its five combinations."""
    before_even, even_odd, odd_after, even, odd = gradients
    # `after` is the even pixel of the next tile, and `before` the odd pixel of the previous tile.
    even = even + even_odd - before_even - _shifted(odd_after, 1, axis)
    odd = odd + odd_after - even_odd + _shifted(before_even, -1, axis)
    both = jnp.stack([even, odd], axis + 1)
    return both.reshape(*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])


def _gradients(g: jax.Array, axis: int) -> list[list[jax.Array]]:
    """For each combination along an axis, the gradients in the products with its weights."""
    y0, y1, y2, y3 = (
        jax.lax.slice_in_dim(g, i, g.shape[axis], TILE, axis) for i in range(TILE)
    )
    return [[y0], [y2, y1], [y3], [y0 + y2], [y1 + y3]]


def _shifted(image: jax.Array, by: int, axis: int) -> jax.Array:
    """The image shifted by one pixel along an axis, with zeros filled in."""
    low, high = (1, -1) if by > 0 else (-1, 1)
    padding = [(low, high, 0) if i == axis else (0, 0, 0) for i in range(image.ndim)]
    return jax.lax.pad(image, jnp.zeros((), image.dtype), padding)


def _name(rows: int, columns: int) -> str:
    return f"{rows}{columns}"
