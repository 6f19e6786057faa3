"""The density of a flow whose linear maps are multiplied out, once for many evaluations.

In the direction z -> z0, every flow here alternates between an affine map of the whole vector
(actnorm, invertible linear layer, reversal) and a coupling, whose network has two hidden layers
with actnorm:

    [y1 | y2] = z A + c
    [shift | raw] = relu(relu(y1 K1 + b1) K2 + b2) K3 + b3
    z' = [y1 | (y2 + shift) exp(log_scale(raw))]

`fold` multiplies the hidden layers' actnorms and the output's exp(3 s) into K and b, and places
the first hidden layer beside A. A step is then three products and the elementwise work between:

    [h | y1 | y2] = z [A1 K1 | A] + [c1 K1 + b1 | c],        A1, c1: the columns that give y1.

The log-determinants of the affine maps are constants, which the caller adds. Long halves of a
vector are padded here with zeros to a multiple of 16 entries; otherwise an accelerator's compiler
would pad the weights at every step of a chain. The loop over flow steps is unrolled, not a scan, so
that the compiler fuses the elementwise work between products.

The bijectors in a flow's `forward` and `inverse` compute the same up to rounding.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lfbm_jax.layers.bijectors import LOG_SCALE_FACTOR

# Halves longer than this are padded to a multiple of it.
MULTIPLE = 16


def fold(
    matrices: jax.Array,
    offsets: jax.Array,
    networks: dict,
    *,
    last_scale: jax.Array | None = None,
    **gates: jax.Array,
) -> list[dict]:
    """The input of `inverse_and_log_det`: a dictionary of arrays for each of the L steps.

    Args:
        matrices, offsets: A [L, d, d] and c [L, d].
        networks: parameters of `flows.Conditioner`, with a leading axis of steps.
        last_scale: factors for the vector after the last step, [d].
        gates: further arrays that `log_scale` reads, [L, d - d // 2] each.
    """
    latent_dim = matrices.shape[-1]
    first, second = latent_dim // 2, latent_dim - latent_dim // 2
    (k1, b1), (k2, b2), (k3, b3) = _multiplied_out(networks)
    # The offset becomes the last row of its matrix.
    maps = jnp.concatenate([matrices, offsets[:, None]], axis=1)
    hidden = maps[..., :first] @ k1
    outputs = jnp.concatenate([k3, b3[:, None]], axis=1)
    outputs = outputs.reshape(*outputs.shape[:2], -1, second)
    if last_scale is not None:
        maps = maps.at[-1].multiply(last_scale)
        outputs = outputs.at[-1, :, 0].multiply(last_scale[first:])
    maps = jnp.concatenate([hidden, _pad_halves(maps, axis=2)], axis=2)
    outputs = _pad(outputs, second).reshape(*outputs.shape[:2], -1)
    steps = {
        "kernel_1": _pad_halves(maps[:, :-1], axis=1),
        "bias_1": maps[:, -1].at[:, : b1.shape[-1]].add(b1),
        "kernel_2": k2,
        "bias_2": b2,
        "kernel_3": outputs[:, :-1],
        "bias_3": outputs[:, -1],
        **{name: _pad(gate, second) for name, gate in gates.items()},
    }
    return [jax.tree.map(lambda array, i=i: array[i], steps) for i in range(len(matrices))]


def reversals(num_steps: int, latent_dim: int) -> jax.Array:
    """A [L, d, d] for L steps with a reversal of the vector between each two."""
    identity = jnp.eye(latent_dim)
    return jnp.stack([identity] + [identity[::-1]] * (num_steps - 1))


def inverse_and_log_det(
    steps: list[dict], log_scale: Callable[..., jax.Array | float], z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The output of the last coupling, padded, and the sum of all log-scales; z [d].

    Args:
        steps: the result of `fold`.
        log_scale: (folded step, raw scales [half], if any) -> log-scales [half], or a constant.
    """
    second = len(z) - len(z) // 2
    half = _padded(second)
    z, log_det = _pad_halves(z), jnp.zeros((), z.dtype)
    for step in steps:
        linear = z @ step["kernel_1"] + step["bias_1"]
        hidden, first, rest = linear[: -2 * half], linear[-2 * half : -half], linear[-half:]
        hidden = jax.nn.relu(hidden) @ step["kernel_2"] + step["bias_2"]
        output = jax.nn.relu(hidden) @ step["kernel_3"] + step["bias_3"]
        shift, *raw = jnp.split(output, len(output) // half)
        log_scales = jnp.broadcast_to(log_scale(step, *raw), shift.shape)
        z = jnp.concatenate([first, (rest + shift) * jnp.exp(log_scales)])
        log_det = log_det + jnp.sum(log_scales[:second])
    return z, log_det


def _multiplied_out(networks: dict) -> list[tuple[jax.Array, jax.Array]]:
    """Kernel and bias of the three layers, with the scale after each layer multiplied into both."""
    layers = []
    for i in range(2):
        actnorm, kernel = networks[f"actnorm_{i}"], networks[f"Dense_{i}"]["kernel"]
        scale = jnp.exp(LOG_SCALE_FACTOR * actnorm["log_scale"])
        layers.append((kernel * scale[:, None], actnorm["bias"] * scale))
    scale = jnp.exp(LOG_SCALE_FACTOR * networks["log_scale"])
    output = networks["Dense_2"]
    return [*layers, (output["kernel"] * scale[:, None], output["bias"] * scale)]


def _pad_halves(array: jax.Array, axis: int = 0) -> jax.Array:
    """Pads each half of an axis with zeros at its end: [..., d, ...] -> [..., 2 half, ...]."""
    size = array.shape[axis]
    halves = jnp.split(array, [size // 2], axis)
    return jnp.concatenate([_pad(part, size - size // 2, axis) for part in halves], axis)


def _pad(array: jax.Array, size: int, axis: int = -1) -> jax.Array:
    """Pads an axis with zeros at its end to the padded length of a half of `size` entries."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, _padded(size) - array.shape[axis])
    return jnp.pad(array, widths)


def _padded(size: int) -> int:
    return size if size <= MULTIPLE else -(-size // MULTIPLE) * MULTIPLE
