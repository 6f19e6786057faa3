"""Converts a checkpoint of the authors into a work directory.

    python -m lfbm_jax.convert CKPT.pth --config=FILE --workdir=RUN

The new work directory evaluates and samples like one trained here. The sizes of the networks are
read from the checkpoint and replace those of the config. Everything that a checkpoint does not hold
(the data, sigma, the inference settings) comes from the config. PyTorch is not needed.

The authors' checkpoint is a dictionary of `epoch`, `netF` (the flow), `netG` (the generator) and
the optimizers' states. The latter are ignored, so further training restarts Adam.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.files import pytorch_file
from lfbm_jax.model import Parameters
from lfbm_jax.runs import build, cli, given, workdir
from lfbm_jax.runs.checkpoints import Checkpoints

# The parts that their checkpoints hold. Any other part of a config would lack parameters.
PARTS = {
    "prior": "glow",
    "generator": "convnet",
    "inference": "langevin",
    "eval_inference": "langevin",
}
# Their name for a step of the flow. Step 0 is the first in the direction z -> z0, as in our code.
STEP = "revnet2d_s.0.revnet2d_step_s.{}."
# A copy of actnorm.b, and biases that the layer's actnorm makes redundant.
UNUSED = re.compile(r"actnorm\.bias$|f\.fc_[12]\.b$")
# Their convolutions are members 0, 3, 6, ... of a sequence, with normalisation and ReLU in between.
MEMBERS_A_LAYER = 3
# (stride, padding) of every layer but the first, by its kernel size; the first has (1, 0).
GEOMETRY = {4: (2, 1), 3: (1, 1)}

flags.adopt_module_key_flags(given)


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


def adapt(config: ml_collections.ConfigDict, converted: Converted) -> None:
    """Puts the sizes of the checkpoint into a config; raises UserError if its parts do not fit.

    Weights do not determine strides and paddings. These come from the config if its kernel sizes
    are the checkpoint's, else from the authors' networks (`GEOMETRY`).
    """
    for section, name in PARTS.items():
        if config[section].name != name:
            raise UserError(
                f"{section}.name={config[section].name!r}: the authors' checkpoints are for"
                f" {name!r}; leave the variant out"
            )
    num_steps, latent_dim = converted.alpha["linear"].shape[:2]
    hidden_width = converted.alpha["coupling"]["Dense_0"]["kernel"].shape[-1]
    config.model.latent_dim = latent_dim
    config.prior.update({"num_steps": num_steps, "hidden_width": hidden_width})
    layers = _with_geometry(converted.layers, config.generator.layers)
    config.generator.layers = layers
    side = 1
    for _, kernel, stride, padding in layers:
        side = (side - 1) * stride - 2 * padding + kernel
    config.data.update({"image_size": side, "channels": layers[-1][0]})


def convert(
    path: str | pathlib.Path, config: ml_collections.ConfigDict, folder: pathlib.Path
) -> ml_collections.ConfigDict:
    """Makes the work directory `folder`, whose only checkpoint has the epoch as its step.

    Returns:
        The recorded config, which is `config` with the sizes of the checkpoint.

    Raises:
        UserError: the file cannot be converted, or the folder is a work directory already.
    """
    if (folder / "config.json").exists() or (folder / "checkpoints").exists():
        raise UserError(f"--workdir={folder} already holds a run; choose a new folder")
    converted = read(path)
    config = config.copy_and_resolve_references()
    adapt(config, converted)
    build.model(config)  # Raises where these sizes make no model.
    parameters = Parameters(converted.alpha, converted.beta, phi=None)
    parameters = jax.tree.map(lambda array: jnp.asarray(array, float), parameters)
    state = learning.first_state(config, parameters)
    workdir.claim(folder, config)
    checkpoints = Checkpoints(folder)
    checkpoints.save(state._replace(step=jnp.full_like(state.step, converted.epoch)))
    checkpoints.close()
    return config


def main(config: ml_collections.ConfigDict, path: str) -> None:
    if not given.WORKDIR.value:
        raise UserError("--workdir is missing: give a new folder, such as runs/authors_svhn")
    folder = pathlib.Path(given.WORKDIR.value)
    config = convert(path, config, folder)
    side = config.data.image_size
    print(
        f"latent dimension {config.model.latent_dim}, {config.prior.num_steps} flow steps of width"
        f" {config.prior.hidden_width}, {side} x {side} images from layers"
        f" {config.generator.layers}"
    )
    print(f"done; continue with\n  python -m lfbm_jax.main --mode=sample --workdir={folder}")


def _read_flow(arrays: "_Arrays") -> dict:
    """Returns alpha, whose arrays have a leading axis over flow steps."""
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
    for i in range(last // MEMBERS_A_LAYER + 1):
        name = f"gen.{i * MEMBERS_A_LAYER}."
        _, features, kernel, _ = arrays.shape(f"{name}weight", 4)
        weight = arrays.take(f"{name}weight", (channels, features, kernel, kernel))
        beta[f"layer_{i}"] = {
            "kernel": weight.transpose(2, 3, 0, 1),
            "bias": arrays.take(f"{name}bias", (features,)),
        }
        layers.append((features, kernel))
        channels = features
    return beta, tuple(layers)


def _with_geometry(
    layers: tuple[tuple[int, int], ...], known: Sequence[Sequence[int]]
) -> tuple[tuple[int, int, int, int], ...]:
    """Returns (features, kernel size, stride, padding) of every layer; see `adapt`."""
    kernels = [kernel for _, kernel in layers]
    if kernels == [kernel for _, kernel, _, _ in known]:
        geometry = [tuple(rest) for _, _, *rest in known]
    else:
        unknown = [kernel for kernel in kernels[1:] if kernel not in GEOMETRY]
        if unknown:
            raise UserError(
                f"netG: the stride of a layer with kernel size {unknown[0]} is unknown; set"
                f" generator.layers in the config to layers with the kernel sizes {kernels}"
            )
        geometry = [(1, 0), *(GEOMETRY[kernel] for kernel in kernels[1:])]
    return tuple((*layer, *rest) for layer, rest in zip(layers, geometry, strict=True))


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


if __name__ == "__main__":
    cli.run(main, given.config, arguments=("CKPT.pth",))
