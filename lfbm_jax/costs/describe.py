"""Describes the model of a config without data or training: counts, shapes and operations."""

from typing import Any

import jax
import ml_collections
from clu import parameter_overview

from lfbm_jax.model import Model


def describe(config: ml_collections.ConfigDict, model: Model) -> dict[str, Any]:
    """Returns parameter counts, shapes and floating-point operations of the networks of a config.

    Operations count 2 per multiply-add in matrix products and convolutions of the generator and of
    an inference network. The rest (prior, activations, normalisation, optimiser) is left out, and
    so is what an objective computes beyond values and gradients (RAE's gradient penalty, a critic
    and the samples that it sees).

    A Langevin step costs a forward pass of the generator and as much again for the gradient with
    respect to z. (Of a `sampler`, this counts one gradient per kept step, and neither warm-up nor
    trajectories, whose length depends on the data.) The generator's update costs a forward pass and
    two more for its gradients, and so does the update of an inference network. If prior and
    inference are updated several times per update of the generator, each update needs its own
    inference. With an inference network, each update but the first also needs the generator's value
    and its gradient with respect to z. An objective that infers no z in training (MEG) runs no
    inference.
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
    num_steps = config.inference.get("num_steps", 0) if model.objective.infers else 0
    chain_passes = 2 * num_steps
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
    """A printable table of the names, shapes, types and sizes of all parameters, and the total."""
    return parameter_overview.get_parameter_overview(_shapes(model), include_stats=False)


def _shapes(model: Model) -> dict[str, Any]:
    """The shapes and types of all parameters as nested dictionaries by network."""
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
