"""What a config would build, without data or training: counts, shapes and operations."""

import math
from typing import Any

import jax
import ml_collections

from lfbm_jax.model import Model


def describe(config: ml_collections.ConfigDict, model: Model) -> dict[str, Any]:
    """Parameter counts, shapes and floating-point operations of every network of a config.

    Operations count 2 for each multiply-add of a matrix product or convolution of the generator and
    of an inference network and leave the rest (prior, activations, normalisation, optimiser) out. A
    Langevin step costs a forward pass and a gradient with respect to z, as much again; the update
    adds a forward pass and two for the gradients, but not the gradient with respect to z. So it is
    for an inference network: a forward pass, and two for its gradients. With several updates of
    prior and inference for one of the generator, each needs an inference of its own, and one that
    goes through a network the generator's value and gradient with respect to z.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    batch = config.train.batch_size
    networks = {
        "prior": _network(config.baseline.name or config.prior.name, shapes.alpha),
        "generator": _network(config.generator.name, shapes.beta),
        "inference": _network(config.inference.name, shapes.phi),
    }
    networks["prior"] |= getattr(model.prior, "reference_counts", dict)()
    forward = model.generator.flops()
    repeats = config.train.prior_inference_updates
    network = getattr(model.inference, "flops", int)()
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


def _network(name: str, shapes: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(shapes)[0]
    return {
        "name": name,
        "parameters": sum(math.prod(leaf.shape) for _, leaf in leaves),
        "shapes": {
            jax.tree_util.keystr(path, simple=True, separator="."): list(leaf.shape)
            for path, leaf in leaves
        },
    }
