"""Reads a checkpoint of the authors' PyTorch code; PyTorch is not needed.

A checkpoint is a dictionary of `epoch`, `netF` (the flow), `netG` (the generator) and the states of
the optimizers, which are ignored.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.files import pytorch_file

# Their name for a step of the flow. Step 0 is the first in the direction z -> z0, as in our code.
STEP = "revnet2d_s.0.revnet2d_step_s.{}."
# A copy of actnorm.b, and biases that the layer's actnorm makes redundant.
UNUSED = re.compile(r"actnorm\.bias$|f\.fc_[12]\.b$")
# Their convolutions are members 0, 3, 6, ... of a sequence, with normalisation and ReLU in between.
MEMBERS_PER_LAYER = 3


class Converted(NamedTuple):
    """The content of one of the authors' checkpoints, in our layout.

    Attributes:
        epoch: the number of training epochs.
        alpha, beta: parameters of the glow prior and of the convnet generator, as NumPy arrays.
        layers: (features, kernel size) of every layer of the generator.
    """

    epoch: int
    alpha: dict
    beta: dict
    layers: tuple[tuple[int, int], ...]


def read(path: str | pathlib.Path) -> Converted:
    """Reads a checkpoint in the authors' format.

    Raises:
        UserError: the file has another format, or an array is missing, unknown, of a wrong shape
            or not finite.
    """
    return read_state(pytorch_file.read(path), path)


def read_state(content: Any, path: str | pathlib.Path) -> Converted:
    """Converts the content of the file `path`, a name used in errors only; see `read`."""
    if not isinstance(content, Mapping) or not {"epoch", "netF", "netG"} <= content.keys():
        raise UserError(f"{path}: lacks 'epoch', 'netF' or 'netG': not a checkpoint of the authors")
    if not isinstance(content["epoch"], int) or content["epoch"] < 0:
        raise UserError(f"{path}: epoch is {content['epoch']!r}, not an integer of at least 0")
    networks = {name: _Arrays(f"{path}: {name}", content[name]) for name in ("netF", "netG")}
    alpha = _read_flow(networks["netF"])
    beta, layers = _read_generator(networks["netG"], latent_dim=alpha["linear"].shape[-1])
    for arrays in networks.values():
        arrays.check_all_taken()
    return Converted(content["epoch"], alpha, beta, layers)


def _read_flow(arrays: "_Arrays") -> dict:
    """Returns alpha, whose arrays have a leading axis of flow steps."""
    num_steps = arrays.count(STEP.format(r"(\d+)"))
    d, _ = arrays.shape(STEP.format(0) + "invertible_1x1_conv.w", 2)
    _, width = arrays.shape(STEP.format(0) + "f.fc_1.w", 2)
    if d % 2:
        raise UserError(f"{arrays.where}: {d} latent dimensions; the authors' format has an even"
                        " number")

    def actnorm(prefix: str, size: int) -> dict:
        return {
            "bias": arrays.take(f"{prefix}actnorm.b", (1, size))[0],
            "log_scale": arrays.take(f"{prefix}actnorm.logs", (1, size))[0],
        }

    def step(prefix: str) -> dict:
        # Their couplings take the even outputs as the shift and the odd ones as the scale. Ours
        # take the first half as the shift and the second half as the scale.
        order = np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])
        net = f"{prefix}f."
        return {
            "actnorm": actnorm(prefix, d),
            "linear": arrays.take(f"{prefix}invertible_1x1_conv.w", (d, d)),
            "coupling": {
                "Dense_0": {"kernel": arrays.take(f"{net}fc_1.w", (d // 2, width))},
                "actnorm_0": actnorm(f"{net}fc_1.", width),
                "Dense_1": {"kernel": arrays.take(f"{net}fc_2.w", (width, width))},
                "actnorm_1": actnorm(f"{net}fc_2.", width),
                "Dense_2": {
                    "kernel": arrays.take(f"{net}fc_zeros.w", (width, d))[:, order],
                    "bias": arrays.take(f"{net}fc_zeros.b", (1, d))[0, order],
                },
                "log_scale": arrays.take(f"{net}fc_zeros.logs", (1, d))[0, order],
            },
        }

    steps = [step(STEP.format(i)) for i in range(num_steps)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


def _read_generator(
    arrays: "_Arrays", latent_dim: int
) -> tuple[dict, tuple[tuple[int, int], ...]]:
    """Returns beta, and (features, kernel size) of every layer."""
    last = arrays.count(r"gen\.(\d+)\.") - 1
    beta, layers, channels = {}, [], latent_dim
    for i in range(last // MEMBERS_PER_LAYER + 1):
        name = f"gen.{i * MEMBERS_PER_LAYER}."
        _, features, kernel, _ = arrays.shape(f"{name}weight", 4)
        weight = arrays.take(f"{name}weight", (channels, features, kernel, kernel))
        beta[f"layer_{i}"] = {
            "kernel": weight.transpose(2, 3, 0, 1),
            "bias": arrays.take(f"{name}bias", (features,)),
        }
        layers.append((features, kernel))
        channels = features
    return beta, tuple(layers)


class _Arrays:
    """A state dict from which every array is taken once, after a check of its shape."""

    def __init__(self, where: str, arrays: Any):
        self.where = where
        if not isinstance(arrays, Mapping):
            raise UserError(f"{where} is not a state dict")
        self._left = {name: array for name, array in arrays.items() if not UNUSED.search(name)}

    def count(self, pattern: str) -> int:
        """The largest number in names that match, plus one; raises UserError if none matches."""
        found = (re.match(pattern, name) for name in self._left)
        numbers = [int(match[1]) for match in found if match]
        if not numbers:
            raise UserError(f"{self.where} has no array named {pattern}")
        return max(numbers) + 1

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """The shape of an array; raises UserError if it has another number of axes."""
        shape = np.shape(self._get(name))
        if len(shape) != axes:
            raise UserError(f"{self.where}.{name} has shape {shape}, but needs {axes} axes")
        return shape

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        array = self._get(name)
        if np.shape(array) != shape:
            raise UserError(f"{self.where}.{name} has shape {np.shape(array)} instead of {shape}")
        if not np.all(np.isfinite(array)):
            raise UserError(f"{self.where}.{name} is not finite")
        return self._left.pop(name)

    def check_all_taken(self) -> None:
        if self._left:
            raise UserError(f"{self.where}.{next(iter(self._left))} is unknown to this format")

    def _get(self, name: str) -> np.ndarray:
        if name not in self._left:
            raise UserError(f"{self.where}.{name} is missing")
        return self._left[name]
