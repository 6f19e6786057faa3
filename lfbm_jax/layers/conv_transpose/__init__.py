"""Transposed convolution, fast in z: y[s i + k - p] += x[i] W[k].

The output of a layer has (size - 1) s - 2 p + k rows and columns, as in PyTorch's ConvTranspose2d.
A Langevin chain needs the value and its gradient in x at each of K steps, while only the update
needs the gradient in W. The layer therefore separates the two paths:

    y = along_x(W, x) + along_kernel(W, x)

`along_x` gives the value and its derivative in x, each in a form chosen by platform and layer, with
the weights laid out in advance. `along_kernel` is zero and costs nothing until W is differentiated.
Its derivative in W is left to JAX, so that under `vmap` the weight gradient of a batch is one
product instead of a sum of per-example products.
"""

import dataclasses
import functools
from types import ModuleType

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from lfbm_jax.layers.conv_transpose import overlap_add, winograd

CONV_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True)
class ConvTranspose:
    """One transposed-convolution layer, without its weights.

    Attributes:
        kernel_size: k, rows and columns of the kernel.
        stride: s.
        padding: p, rows and columns cropped from every side of the full output.
        in_channels, out_channels: channels of x and y.
        input_shape: rows and columns of x; affects the form, not the result.
    """

    kernel_size: int
    stride: int
    padding: int
    in_channels: int
    out_channels: int
    input_shape: tuple[int, int]

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """[k, k, in, out]."""
        return (self.kernel_size, self.kernel_size, self.in_channels, self.out_channels)

    def prepare(self, kernel: jax.Array) -> dict:
        """Computes everything that depends only on the weights; kernel [k, k, in, out].

        Gradients flow through "kernel". "matrices" are its values in the layout of `_form`'s form;
        the compiler drops them if the library's convolution is used.
        """
        matrices = self._form(kernel.dtype).lay_out(self, jax.lax.stop_gradient(kernel))
        return {"kernel": kernel, "matrices": matrices}

    def apply(self, prepared: dict, x: jax.Array) -> jax.Array:
        """y [H', W', out] of x [H, W, in], both in the type of x."""
        return _conv_transpose(self, prepared, x)

    def _form(self, dtype: jnp.dtype) -> ModuleType:
        """The module that computes this layer fastest on a CPU (lfbm_jax/README.md has times).

        For an input of one pixel, the module computes one matrix product on every platform.
        """
        exact = jnp.finfo(dtype).bits >= 32  # In bfloat16, Winograd's sums lose digits.
        wide = self.out_channels >= 16
        return winograd if exact and wide and winograd.suits(self) else overlap_add


def conv_transpose(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """Transposed convolution of one image x [H, W, C] with kernel [k, k, C, D] -> [H', W', D]."""
    layer = ConvTranspose(
        kernel_size=kernel.shape[0],
        stride=stride,
        padding=padding,
        in_channels=kernel.shape[2],
        out_channels=kernel.shape[3],
        input_shape=(x.shape[0], x.shape[1]),
    )
    return layer.apply(layer.prepare(kernel), x)


def reference(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """The definition, tap by tap; shapes as in `conv_transpose`; slow, for tests."""
    (height, width, _), (rows, columns, _, features) = x.shape, kernel.shape
    full_shape = ((height - 1) * stride + rows, (width - 1) * stride + columns, features)
    full = jnp.zeros(full_shape, x.dtype)
    for k in range(rows):
        for j in range(columns):
            landing = (slice(k, k + height * stride, stride), slice(j, j + width * stride, stride))
            full = full.at[landing].add(x @ kernel[k, j])
    return full[padding : full.shape[0] - padding, padding : full.shape[1] - padding]


# The two paths, forwards and backwards. Each direction is linear in its image (x, or the gradient g
# with respect to y) and in the kernel. The directions are transposes of each other, so these few
# functions give derivatives of any order.


def _conv_transpose(layer, prepared, x):
    """y = along_x + along_kernel, in the forward direction."""
    along_kernel = _along_kernel(_forward_by_kernel, layer, prepared["kernel"], x)
    return _along_x(layer, prepared, x) + along_kernel


def _input_gradient(layer, prepared, g):
    """The gradient of <g, y> in x, itself differentiable in g and in the kernel."""
    along_kernel = _along_kernel(_backward_by_kernel, layer, prepared["kernel"], g)
    return _along_g(layer, prepared, g) + along_kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _along_x(layer, prepared, x):
    if "matrices" not in prepared:
        return _forward_by_kernel(layer, prepared["kernel"], x)
    form = layer._form(x.dtype)
    return _by_platform(
        layer,
        lambda prepared, x: form.forward(layer, prepared["matrices"], x),
        lambda prepared, x: _library_forward(layer, prepared["kernel"], x),
        prepared,
        x,
    )


def _along_x_with_residuals(layer, prepared, x):
    prepared = _without_matrices_if_learned(prepared)
    return _along_x(layer, prepared, x.value), prepared


def _along_x_gradient(layer, prepared, g):
    zero = isinstance(g, SymbolicZero)
    return None, None if zero else _input_gradient(layer, prepared, g)


_along_x.defvjp(_along_x_with_residuals, _along_x_gradient, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _along_g(layer, prepared, g):
    if "matrices" not in prepared:
        return _backward_by_kernel(layer, prepared["kernel"], g)
    form = layer._form(g.dtype)
    return _by_platform(
        layer,
        lambda prepared, g: form.backward(layer, prepared["matrices"], g),
        lambda prepared, g: _library_backward(layer, prepared["kernel"], g),
        prepared,
        g,
    )


_along_g.defvjp(
    lambda layer, prepared, g: (_along_g(layer, prepared, g), prepared),
    lambda layer, prepared, x: (None, _conv_transpose(layer, prepared, x)),
)


def _without_matrices_if_learned(prepared):
    """The values, without the matrices if the kernel is differentiated too.

    The kernel is differentiated once per update. There, the plain form's extra run time is less
    than the time to compile the other form a second time.
    """
    values = jax.tree.map(lambda leaf: leaf.value, prepared)
    return {"kernel": values["kernel"]} if prepared["kernel"].perturbed else values


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _along_kernel(direction, layer, kernel, image):
    """Zeros shaped like `direction`'s result, with its derivative in the kernel."""
    out = jax.eval_shape(functools.partial(direction, layer), kernel, image)
    return jnp.zeros(out.shape, out.dtype)


@functools.partial(_along_kernel.defjvp, symbolic_zeros=True)
def _along_kernel_jvp(direction, layer, primals, tangents):
    kernel, image = primals
    zeros = _along_kernel(direction, layer, kernel, image)
    if isinstance(tangents[0], SymbolicZero):
        return zeros, jnp.zeros_like(zeros)
    return zeros, direction(layer, tangents[0], image)


# Both directions, computed from the kernel itself: plain functions that JAX can transpose.


def _forward_by_kernel(layer, kernel, x):
    def by_form(kernel, x):
        return overlap_add.forward(layer, overlap_add.lay_out(layer, kernel), x)

    return _by_platform(layer, by_form, functools.partial(_library_forward, layer), kernel, x)


def _backward_by_kernel(layer, kernel, g):
    def by_form(kernel, g):
        return overlap_add.backward(layer, overlap_add.lay_out(layer, kernel), g)

    return _by_platform(layer, by_form, functools.partial(_library_backward, layer), kernel, g)


def _by_platform(layer, by_form, library, *arguments):
    """Calls `by_form` on a CPU and for inputs of one pixel, and otherwise `library`."""
    if layer.input_shape == (1, 1):
        return by_form(*arguments)
    return jax.lax.platform_dependent(*arguments, cpu=by_form, default=library)


def _library_forward(layer, kernel, x):
    overhang = layer.kernel_size - 1 - layer.padding
    return jax.lax.conv_general_dilated(
        x[None],
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=[(overhang, overhang)] * 2,
        lhs_dilation=(layer.stride, layer.stride),
        dimension_numbers=CONV_DIMENSIONS,
    )[0]


def _library_backward(layer, kernel, g):
    return jax.lax.conv_general_dilated(
        g[None],
        kernel.swapaxes(2, 3),
        window_strides=(layer.stride, layer.stride),
        padding=[(layer.padding, layer.padding)] * 2,
        dimension_numbers=CONV_DIMENSIONS,
    )[0]
