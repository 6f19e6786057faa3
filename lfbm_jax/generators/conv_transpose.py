"""Transposed convolution, fast in z: y[s i + k - p] += x[i] W[k].

The output of a layer has (size - 1) s - 2 p + k rows and columns, as in PyTorch's ConvTranspose2d.
The chain asks K times for the value and for the gradient with respect to x, and only the update
asks for the gradient with respect to W; these two paths are kept apart:

    y = along_x(W, x) + along_kernel(W, x)

`along_x` is the value and its derivative in x, each in a form chosen by platform and layer.
`along_kernel` is zero and costs nothing until W is differentiated; its derivative in W is left
to JAX, so that under `vmap` a batch's weight gradient is one product and not a sum of per-example
ones.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

CONV_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class ConvTranspose:
    """One transposed-convolution layer: everything about it but its weights.

    Attributes:
        kernel_size: k, rows and columns of the kernel.
        stride: s.
        padding: p, rows and columns cut off every side of the full output.
        in_channels, out_channels: channels of x and y.
        input_size: rows and columns of x; decides the form, not the result.
    """

    kernel_size: int
    stride: int
    padding: int
    in_channels: int
    out_channels: int
    input_size: int

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """[k, k, in, out]."""
        return (self.kernel_size, self.kernel_size, self.in_channels, self.out_channels)

    @property
    def output_size(self) -> int:
        """Rows and columns of y for an input of `input_size`."""
        return (self.input_size - 1) * self.stride - 2 * self.padding + self.kernel_size

    def prepare(self, kernel: jax.Array):
        """Everything that depends on the weights alone; differentiable; kernel [k, k, in, out]."""
        return {"kernel": kernel}

    def apply(self, prepared, x: jax.Array) -> jax.Array:
        """y [H', W', out] of x [H, W, in], both in the type of x."""
        return _conv_transpose(self.stride, self.padding, prepared["kernel"], x)


def conv_transpose(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """Transposed convolution of one image x [H, W, C] with kernel [k, k, C, D] -> [H', W', D]."""
    layer = ConvTranspose(
        kernel_size=kernel.shape[0],
        stride=stride,
        padding=padding,
        in_channels=kernel.shape[2],
        out_channels=kernel.shape[3],
        input_size=x.shape[0],
    )
    return layer.apply(layer.prepare(kernel), x)


def reference(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The definition: every input pixel adds its multiple of the kernel to the output.

    Shapes as in `conv_transpose`; slow, for tests.
    """
    (height, width, _), (rows, columns, _, features) = x.shape, kernel.shape
    full_shape = ((height - 1) * stride + rows, (width - 1) * stride + columns, features)
    full = jnp.zeros(full_shape, x.dtype)
    for i in range(height):
        for j in range(width):
            window = (slice(i * stride, i * stride + rows), slice(j * stride, j * stride + columns))
            full = full.at[window].add(jnp.einsum("c,klcd->kld", x[i, j], kernel))
    return full[padding : full.shape[0] - padding, padding : full.shape[1] - padding]


# The two paths, forwards and backwards. Each direction is linear in its image (x or the gradient g
# of y) and in the kernel, and the transpose of one direction is the other, so that derivatives of
# any order come out of these few lines.


def _conv_transpose(stride, padding, kernel, x):
    """y = along_x + along_kernel, of the forward direction."""
    along_kernel = _along_kernel(_forward, stride, padding, kernel, x)
    return _along_x(stride, padding, kernel, x) + along_kernel


def _input_gradient(stride, padding, kernel, g):
    """The gradient of <g, y> in x, itself differentiable in g and in the kernel."""
    return _along_g(stride, padding, kernel, g) + _along_kernel(
        _backward, stride, padding, kernel, g
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _along_x(stride, padding, kernel, x):
    return _forward(stride, padding, kernel, x)


_along_x.defvjp(
    lambda stride, padding, kernel, x: (_along_x(stride, padding, kernel, x), kernel),
    lambda stride, padding, kernel, g: (None, _input_gradient(stride, padding, kernel, g)),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _along_g(stride, padding, kernel, g):
    return _backward(stride, padding, kernel, g)


_along_g.defvjp(
    lambda stride, padding, kernel, g: (_along_g(stride, padding, kernel, g), kernel),
    lambda stride, padding, kernel, x: (None, _conv_transpose(stride, padding, kernel, x)),
)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _along_kernel(direction, stride, padding, kernel, image):
    """Zeros of the shape of `direction`'s result, with its derivative in the kernel."""
    out = jax.eval_shape(functools.partial(direction, stride, padding), kernel, image)
    return jnp.zeros(out.shape, out.dtype)


@functools.partial(_along_kernel.defjvp, symbolic_zeros=True)
def _along_kernel_jvp(direction, stride, padding, primals, tangents):
    kernel, image = primals
    zeros = _along_kernel(direction, stride, padding, kernel, image)
    if isinstance(tangents[0], SymbolicZero):
        return zeros, jnp.zeros_like(zeros)
    return zeros, direction(stride, padding, tangents[0], image)


def _forward(stride, padding, kernel, x):
    """y of x in the platform's form."""
    return jax.lax.platform_dependent(
        kernel,
        x,
        cpu=functools.partial(_product_overlap_add, stride, padding),
        default=functools.partial(_library_forward, stride, padding),
    )


def _backward(stride, padding, kernel, g):
    """The gradient in x of <g, y> in the platform's form."""
    return jax.lax.platform_dependent(
        kernel,
        g,
        cpu=functools.partial(_windows_product, stride, padding),
        default=functools.partial(_library_backward, stride, padding),
    )


# The library's convolution.


def _library_forward(stride, padding, kernel, x):
    rows, columns = kernel.shape[:2]
    return jax.lax.conv_general_dilated(
        x[None],
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=[(rows - 1 - padding,) * 2, (columns - 1 - padding,) * 2],
        lhs_dilation=(stride, stride),
        dimension_numbers=CONV_DIMENSIONS,
    )[0]


def _library_backward(stride, padding, kernel, g):
    return jax.lax.conv_general_dilated(
        g[None],
        kernel.swapaxes(2, 3),
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=CONV_DIMENSIONS,
    )[0]


# One matrix product and overlap-add. The full output (before the crop by p) is seen as blocks of
# s x s pixels, and tap k = q s + r of the kernel as pixel r of the q-th block to the right: input
# pixel i then adds to block i + q.


def _taps(stride, kernel):
    """[k, l, C, D] -> [C, Qh, s, Qw, s, D], with zeros where s does not divide the kernel size."""
    rows, columns, channels, features = kernel.shape
    kernel = jnp.pad(kernel, ((0, -rows % stride), (0, -columns % stride), (0, 0), (0, 0)))
    blocks_h, blocks_w = -(-rows // stride), -(-columns // stride)
    kernel = kernel.reshape(blocks_h, stride, blocks_w, stride, channels, features)
    return kernel.transpose(4, 0, 1, 2, 3, 5)


def _pixel_product(padding, kernel, x):
    """y of a single pixel x [1, 1, C]: nothing overlaps, one product is all."""
    full = jnp.einsum(
        "c,klcd->kld", x[0, 0], kernel, preferred_element_type=_accumulator(x.dtype)
    ).astype(x.dtype)
    return full[padding : full.shape[0] - padding, padding : full.shape[1] - padding]


def _pixel_product_gradient(padding, kernel, g):
    """The gradient of <g, y> in that pixel, [1, 1, C]."""
    full = jnp.pad(g, ((padding, padding), (padding, padding), (0, 0)))
    product = jnp.einsum(
        "kld,klcd->c", full, kernel, preferred_element_type=_accumulator(g.dtype)
    )
    return product.astype(g.dtype)[None, None]


def _product_overlap_add(stride, padding, kernel, x):
    if x.shape[:2] == (1, 1):
        return _pixel_product(padding, kernel, x)
    taps = _taps(stride, kernel)
    products = jnp.einsum(
        "hwc,cqrtud->hwqrtud", x, taps, preferred_element_type=_accumulator(x.dtype)
    )
    (height, width, blocks_h, _, blocks_w) = products.shape[:5]
    full = sum(
        jnp.pad(
            products[:, :, q, :, t],
            ((q, blocks_h - 1 - q), (t, blocks_w - 1 - t), (0, 0), (0, 0), (0, 0)),
        )
        for q in range(blocks_h)
        for t in range(blocks_w)
    )
    full = full.transpose(0, 2, 1, 3, 4)
    full = full.reshape(full.shape[0] * stride, full.shape[2] * stride, kernel.shape[3])
    rows = (height - 1) * stride + kernel.shape[0]
    columns = (width - 1) * stride + kernel.shape[1]
    return full[padding : rows - padding, padding : columns - padding].astype(x.dtype)


def _windows_product(stride, padding, kernel, g):
    if (g.shape[0] + 2 * padding, g.shape[1] + 2 * padding) == kernel.shape[:2]:
        return _pixel_product_gradient(padding, kernel, g)
    taps = _taps(stride, kernel)
    blocks_h, blocks_w = taps.shape[1], taps.shape[3]
    height = (g.shape[0] + 2 * padding - kernel.shape[0]) // stride + 1
    width = (g.shape[1] + 2 * padding - kernel.shape[1]) // stride + 1
    rows = (height + blocks_h - 1) * stride
    columns = (width + blocks_w - 1) * stride
    g = jnp.pad(
        g,
        (
            (padding, rows - padding - g.shape[0]),
            (padding, columns - padding - g.shape[1]),
            (0, 0),
        ),
    )
    g = g.reshape(rows // stride, stride, columns // stride, stride, g.shape[-1])
    g = g.transpose(0, 2, 1, 3, 4)
    windows = jnp.stack(
        [
            jnp.stack([g[q : q + height, t : t + width] for t in range(blocks_w)], axis=2)
            for q in range(blocks_h)
        ],
        axis=2,
    )  # [H, W, Qh, Qw, s, s, D]
    out = jnp.einsum(
        "hwqtrud,cqrtud->hwc", windows, taps, preferred_element_type=_accumulator(g.dtype)
    )
    return out.astype(g.dtype)


def _accumulator(dtype):
    """The type that sums of products are kept in: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)
