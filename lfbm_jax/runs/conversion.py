"""Converts one of the authors' checkpoints into a work directory.

The work directory evaluates and samples like one trained here. The sizes of the networks are those
of the checkpoint and replace those of the config. Everything that a checkpoint does not hold (the
data, sigma, the inference settings) comes from the config. The states of the authors' optimizers
are not converted, so further training restarts Adam.
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.model import Parameters
from lfbm_jax.runs import authors_checkpoint, build, workdir
from lfbm_jax.runs.authors_checkpoint import Converted
from lfbm_jax.runs.checkpoints import Checkpoints

# The parts that their checkpoints hold. Any other part of a config would lack parameters.
PARTS = {
    "prior": "glow",
    "generator": "convnet",
    "inference": "langevin",
    "eval_inference": "langevin",
}
# (stride, padding) of every layer but the first, by its kernel size; the first has (1, 0).
GEOMETRY = {4: (2, 1), 3: (1, 1)}


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
    converted = authors_checkpoint.read(path)
    config = config.copy_and_resolve_references()
    adapt(config, converted)
    build.model(config)  # Raises where these sizes make no model.
    parameters = Parameters(converted.alpha, converted.beta, phi=None)
    parameters = jax.tree.map(lambda array: jnp.asarray(array, float), parameters)
    state = learning.first_state(config, parameters)
    with workdir.lock(folder):
        workdir.claim(folder, config)
        checkpoints = Checkpoints(folder)
        checkpoints.save(state._replace(step=jnp.full_like(state.step, converted.epoch)))
        checkpoints.close()
    return config


def _with_geometry(
    layers: tuple[tuple[int, int], ...], known: Sequence[Sequence[int]]
) -> tuple[tuple[int, int, int, int], ...]:
    """Returns (features, kernel size, stride, padding) of every layer; see `adapt`."""
    kernels = [kernel for _, kernel in layers]
    if kernels == [kernel for _, kernel, _, _ in known]:
        geometry = [(stride, padding) for _, _, stride, padding in known]
    else:
        unknown = [kernel for kernel in kernels[1:] if kernel not in GEOMETRY]
        if unknown:
            raise UserError(
                f"netG: the stride of a layer with kernel size {unknown[0]} is unknown; set"
                f" generator.layers in the config to layers with the kernel sizes {kernels}"
            )
        geometry = [(1, 0), *(GEOMETRY[kernel] for kernel in kernels[1:])]
    both = zip(layers, geometry, strict=True)
    return tuple((*layer, *rest) for layer, rest in both)
