"""What a config would build, without data or training: counts, shapes and operations."""

from typing import Any

import jax
import ml_collections
from clu import parameter_overview

from lfbm_jax.model import Model


def describe(config: ml_collections.ConfigDict, model: Model) -> dict[str, Any]:
    """Parameter counts, shapes and floating-point operations of every network of a config.

    Operations count 2 for each multiply-add of a matrix product or convolution of the generator and
    of an inference network and leave the rest (prior, activations, normalisation, optimiser) out. A
    Langevin step costs a forward pass and a gradient with respect to z, as much again; the update
    adds a forward pass and two for the gradients, but not the gradient with respect to z. So it is
    for an inference network: a forward pass, and two for its gradients. With several updates of
    prior and inference for one of the generator, each needs an inference of its own, and one that
    goes through a network the generator's value and gradient with respect to z. What an objective
    computes beyond values and gradients (RAE's gradient penalty, a critic) is left out.
    """
    shapes = _shapes(model)
    batch = config.train.batch_size
    networks = {
        "prior": _network(config.prior.name, shapes["prior"]),
        "generator": _network(config.generator.name, shapes["generator"]),
        "inference": _network(config.inference.name, shapes["inference"]),
        "objective": _network(config.objective.name, shapes["objective"]),
    }
    networks["prior"] |= model.prior.reference_counts()
    forward = model.generator.flops()
    repeats = config.train.prior_inference_updates
    network = model.inference.flops()
    chain_passes = 2 * config.inference.get("num_steps", 0)
    extra_passes = 2 * (repeats - 1) if network else 0
    per_step = {
        "inference": batch * repeats * (chain_passes * forward + network),
        "inference_update": batch * repeats * 2 * network,
        "generator_update": batch * (3 + extra_passes) * forward,
    }
    return networks | {
        "latent_dim": config.model.latent_dim,
        "image_shape": [config.data.image_size, config.data.image_size, config.data.channels],
        "batch_size": batch,
        "generator_flops_per_image": forward,
        "flops_per_training_step": sum(per_step.values()),
        "flops_per_training_step_of": per_step,
    }


def parameter_table(model: Model) -> str:
    """Names, shapes, types and sizes of all parameters, a table to be read, with their total."""
    return parameter_overview.get_parameter_overview(_shapes(model), include_stats=False)


def _shapes(model: Model) -> dict[str, Any]:
    """The shapes and types of all parameters as nested dictionaries, network by network."""
    parameters = jax.eval_shape(model.init, jax.random.key(0))
    groups = parameters._replace(psi=None).groups() | {"objective": parameters.psi}
    return {name: group or {} for name, group in groups.items()}


def _network(name: str, shapes: Any) -> dict[str, Any]:
    leaves = parameter_overview.flatten_dict(shapes, delimiter=".")
    return {
        "name": name,
        "parameters": int(parameter_overview.count_parameters(shapes)),
        "shapes": {path: list(leaf.shape) for path, leaf in leaves.items()},
    }
