"""The network of the Frechet inception distance: Inception-v3 as TensorFlow trained it in 2015.

It differs from the later Inception-v3 in its pooling: averages exclude the padding, and the last
block takes maxima. The weights are those of the PyTorch conversion that is used for FIDs,
`pt_inception-2015-12-05-6726825d.pth`, which users already have or which is downloaded once.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lfbm_jax.errors import UserError
from lfbm_jax.model import Array

SIDE = 299  # height and width of its input
FEATURES = 2048
EPSILON = 1e-3  # of the batch normalisations


def _conv(
    x: jax.Array,
    name: str,
    features: int,
    size: int | tuple[int, int] = 1,
    stride: int = 1,
    padding: str = "SAME",
) -> jax.Array:
    """A convolution and a rectifier. Kernel and bias include the batch normalisation."""
    convolution = nn.Conv(
        features,
        (size, size) if isinstance(size, int) else size,
        stride,
        padding,
        precision=jax.lax.Precision.HIGHEST,
        param_dtype=float,
        name=name,
    )
    return nn.relu(convolution(x))


def _average(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _maximum(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _shrink(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


class Mixed35(nn.Module):
    """Block at 35 x 35 pixels."""

    pooled: int  # channels of the branch that pools

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        five = _conv(x, "branch5x5_1", 48)
        three = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3)
        branches = [
            _conv(x, "branch1x1", 64),
            _conv(five, "branch5x5_2", 64, 5),
            _conv(three, "branch3x3dbl_3", 96, 3),
            _conv(_average(x), "branch_pool", self.pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class From35To17(nn.Module):
    """Halves the sides."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        three = _conv(_conv(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, 3)
        branches = [
            _conv(x, "branch3x3", 384, 3, stride=2, padding="VALID"),
            _conv(three, "branch3x3dbl_3", 96, 3, stride=2, padding="VALID"),
            _shrink(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class Mixed17(nn.Module):
    """Block at 17 x 17 pixels, with convolutions along one axis at a time."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = _conv(x, "branch7x7_1", self.width)
        single = _conv(single, "branch7x7_2", self.width, (1, 7))
        double = _conv(x, "branch7x7dbl_1", self.width)
        for name, size in (("2", (7, 1)), ("3", (1, 7)), ("4", (7, 1))):
            double = _conv(double, f"branch7x7dbl_{name}", self.width, size)
        branches = [
            _conv(x, "branch1x1", 192),
            _conv(single, "branch7x7_3", 192, (7, 1)),
            _conv(double, "branch7x7dbl_5", 192, (1, 7)),
            _conv(_average(x), "branch_pool", 192),
        ]
        return jnp.concatenate(branches, axis=-1)


class From17To8(nn.Module):
    """Halves the sides."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        seven = _conv(_conv(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, (1, 7))
        seven = _conv(seven, "branch7x7x3_3", 192, (7, 1))
        three = _conv(x, "branch3x3_1", 192)
        branches = [
            _conv(three, "branch3x3_2", 320, 3, stride=2, padding="VALID"),
            _conv(seven, "branch7x7x3_4", 192, 3, stride=2, padding="VALID"),
            _shrink(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class Mixed8(nn.Module):
    """Block at 8 x 8 pixels, with two branches that fork."""

    pool: Any  # _average or _maximum

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = _conv(x, "branch3x3_1", 384)
        double = _conv(_conv(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, 3)
        branches = [
            _conv(x, "branch1x1", 320),
            _conv(single, "branch3x3_2a", 384, (1, 3)),
            _conv(single, "branch3x3_2b", 384, (3, 1)),
            _conv(double, "branch3x3dbl_3a", 384, (1, 3)),
            _conv(double, "branch3x3dbl_3b", 384, (3, 1)),
            _conv(self.pool(x), "branch_pool", 192),
        ]
        return jnp.concatenate(branches, axis=-1)


class Inception(nn.Module):
    """Maps images [B, 299, 299, 3] in [-1, 1] to features [B, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(x, "Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID")
        x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        x = _conv(x, "Conv2d_2b_3x3", 64, 3)
        x = _conv(_shrink(x), "Conv2d_3b_1x1", 80)
        x = _shrink(_conv(x, "Conv2d_4a_3x3", 192, 3, padding="VALID"))
        for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
            x = Mixed35(pooled, name=f"Mixed_5{letter}")(x)
        x = From35To17(name="Mixed_6a")(x)
        for letter, width in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = Mixed17(width, name=f"Mixed_6{letter}")(x)
        x = From17To8(name="Mixed_7a")(x)
        x = Mixed8(_average, name="Mixed_7b")(x)
        x = Mixed8(_maximum, name="Mixed_7c")(x)
        return jnp.mean(x, axis=(1, 2))


def features(parameters: Any, x: Array) -> Any:
    """The features [B, 2048] of images x [B, H, W, C] in [-1, 1], grey or colour.

    Images are resized to 299 x 299 by bilinear interpolation without antialiasing.
    """
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    x = jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear", antialias=False)
    return Inception().apply({"params": parameters}, x)


def parameters_of(state: dict[str, np.ndarray]) -> Any:
    """The network's parameters from a PyTorch state dict.

    The batch normalisations, which have fixed statistics, become part of kernel and bias.

    Raises:
        UserError: an array is missing or has the wrong shape.
    """
    wanted = jax.eval_shape(
        Inception().init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), float)
    )
    parameters = {}
    for path, leaf in flatten_dict(wanted["params"]).items():
        if path[-1] != "kernel":
            continue
        name = ".".join(path[:-1])

        def array(part, shape, name=name):
            if f"{name}.{part}" not in state:
                raise UserError(f"{name}.{part} is missing")
            found = np.asarray(state[f"{name}.{part}"], np.float64)
            if found.shape != shape:
                raise UserError(f"{name}.{part} has shape {found.shape} instead of {shape}")
            return found

        height, width, inputs, outputs = leaf.shape
        kernel = array("conv.weight", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
        gamma, beta, mean, variance = (
            array(f"bn.{part}", (outputs,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        parameters[(*path[:-1], "kernel")] = jnp.asarray(kernel * scale, float)
        parameters[(*path[:-1], "bias")] = jnp.asarray(beta - mean * scale, float)
    return unflatten_dict(parameters)
