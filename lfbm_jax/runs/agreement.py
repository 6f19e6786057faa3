"""Compares the results of a device with those of a CPU for the same parameters and images.

The error of an array is counted in roundings: ||found - expected|| / ||expected||, divided by the
machine epsilon of the precision that the array should be computed in.
"""

import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from lfbm_jax import learning
from lfbm_jax.devices import sharding
from lfbm_jax.files import atomic
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import precision
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.runs import build

BATCH = 8
CHAIN_STEPS = 10
# For significands of 24, 11 and 8 bits, counting the implicit leading bit.
EPSILON = {"float32": 2.0**-23, "tensorfloat32": 2.0**-10, "bfloat16": 2.0**-7}

# Lists of arrays by name, with one array per example or one per array of parameters.
Figures = dict[str, list[np.ndarray]]


class Bound(NamedTuple):
    """The largest error allowed for a figure.

    Attributes:
        roundings: the largest error, in roundings.
        over: combines the errors of the figure's arrays. Chains use the median, because a chain is
            off by far more than the others if one of its activations crosses zero, where LeakyReLU
            changes slope.
        always_float32: whether it is computed in float32 under every precision.
    """

    roundings: float
    over: Callable[[list[float]], float]
    always_float32: bool = False


# Largest errors measured for SVHN on a CPU: densities 0.6, chain 6.4, updates 26. These compare
# with other forms of the convolutions in float32, with inputs cut to 11 bits, and with bfloat16.
BOUNDS = {
    "log p(z)": Bound(16, max, always_float32=True),
    "log p(x given z)": Bound(16, max),
    "chain": Bound(32, np.median),
    "update of the prior": Bound(128, max),
    "update of the generator": Bound(128, max),
}


def parameters(config: ml_collections.ConfigDict) -> Parameters:
    """Parameters roughly as after training: the prior's with noise, the generator's doubled.

    Initial parameters would test little: the prior is a rotation, and every z gives a grey image.
    """
    random = np.random.default_rng(config.seed)
    model = build.model(config)
    began = jax.device_get(jax.jit(model.init)(key_for(config.seed, Purpose.PARAMETERS)))

    def perturbed(leaf):
        return (leaf + 0.02 * random.normal(size=leaf.shape)).astype(leaf.dtype)

    alpha = jax.tree.map(perturbed, began.alpha)
    return began._replace(alpha=alpha, beta=jax.tree.map(lambda leaf: 2 * leaf, began.beta))


def figures(config: ml_collections.ConfigDict, parameters: Parameters) -> Figures:
    """Computes all figures on the default device at the config's precision.

    They are the log-densities of BATCH images and latent vectors, the ends of chains of CHAIN_STEPS
    steps, and the gradients of one update after a single chain step. The gradients are read
    from Adam's first moments, which are proportional to them.
    """
    config = config.copy_and_resolve_references().unlock()
    config.train.batch_size = BATCH
    config.inference.num_steps = CHAIN_STEPS
    model = build.model(config)
    random = np.random.default_rng(config.seed)
    coarse = random.integers(0, 256, (BATCH, 4, 4, config.data.channels), dtype=np.uint8)
    repeats = config.data.image_size // 4
    examples = Example(
        image=coarse.repeat(repeats, axis=1).repeat(repeats, axis=2),
        index=np.arange(BATCH, dtype=np.int32),
        weight=np.ones(BATCH, np.float32),
    )
    z = random.normal(size=(BATCH, config.model.latent_dim)).astype(np.float32)

    @jax.jit
    @precision.of_networks(config)
    def evaluate(parameters, examples, z):
        prepared = model.prepare(parameters)

        def one(example, z):
            x = to_unit_range(example.image)
            key = key_for(config.seed, Purpose.INFERENCE, 0, example.index, 0)
            log_joint = model.log_joint(prepared, x)
            posterior = model.inference.infer(
                prepared.phi, key, example._replace(image=x), log_joint
            )
            return *log_joint(z), posterior.z

        return jax.vmap(one)(examples, z)

    log_p_z, log_p_x_given_z, end = jax.device_get(evaluate(parameters, examples, z))
    config.inference.num_steps = 1
    states = _optimizers_after_one_update(config, build.model(config), parameters, examples)
    return {
        "log p(z)": list(log_p_z),
        "log p(x given z)": list(log_p_x_given_z),
        "chain": list(end),
        "update of the prior": jax.tree.leaves(states.alpha["adam"].mu),
        "update of the generator": jax.tree.leaves(states.beta["adam"].mu),
    }


def _optimizers_after_one_update(
    config: ml_collections.ConfigDict, model: Model, parameters: Parameters, examples: Example
) -> Parameters:
    devices, shard = jax.local_device_count(), sharding.shard_size(BATCH)
    rows = np.arange(devices * shard)

    def laid_out(array):
        return array[rows % BATCH].reshape(devices, 1, shard, *array.shape[1:])

    examples = jax.tree.map(laid_out, examples)
    weight = (rows < BATCH).astype(np.float32).reshape(devices, 1, shard)
    update = learning.make_update(config, model, steps_per_epoch=1000)
    state = sharding.replicate(learning.first_state(config, parameters))
    state, _ = update(state, examples._replace(weight=weight), np.int32(1))
    return jax.device_get(state.opt_state)


def errors(found: Figures, expected: Figures, precision: str) -> dict[str, float]:
    """The error of every figure in roundings of the config's precision; infinity stands for NaN.

    `BOUNDS` says how a figure's arrays are combined. The density of the prior is always computed in
    float32, so its error is in roundings of float32.
    """
    roundings = {}
    for name, bound in BOUNDS.items():
        epsilon = EPSILON["float32" if bound.always_float32 else precision]
        of_each = [
            float(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b) / epsilon)
            for a, b in zip(found[name], expected[name], strict=True)
        ]
        error = float(bound.over(of_each))
        roundings[name] = error if np.isfinite(error) else math.inf
    return roundings


def save(figures: Figures, path: pathlib.Path) -> None:
    """Writes figures to an .npz file, which appears complete or not at all."""
    arrays = {f"{name} {i}": a for name, each in figures.items() for i, a in enumerate(each)}
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        # NumPy's stubs take any name for the option `allow_pickle`.
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: pathlib.Path) -> Figures:
    """Reads figures that `save` wrote."""
    figures: Figures = {}
    with np.load(path) as file:
        for key in file.files:
            figures.setdefault(key.rpartition(" ")[0], []).append(file[key])
    return figures
