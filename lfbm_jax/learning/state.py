"""All that training changes, and how it begins."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.learning import chains, optimizers
from lfbm_jax.model import Model, Parameters


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
        step: finished iterations of Algorithm 1, int32 [].
        parameters: alpha, beta, phi.
        moments: Adam's moments for each of them.
        average: the exponential moving average of the parameters, or empty where there is none.
        chains: z of every training image, [N, d], or empty where inference keeps no chains.
    """

    step: jax.Array
    parameters: Parameters
    moments: Parameters
    average: Parameters | tuple[()] = ()
    chains: jax.Array | tuple[()] = ()


def init_state(
    config: ml_collections.ConfigDict, model: Model, num_images: int = 0
) -> TrainState:
    """The state before the first step of training on `num_images` images."""
    # Compiled as a whole: op by op, the initialisers take many times as long.
    parameters = jax.jit(model.init)(key_for(config.seed, Purpose.PARAMETERS))
    started = chains.initial(model, config.model.latent_dim, config.seed, num_images)
    return first_state(config, parameters)._replace(chains=started)


def first_state(config: ml_collections.ConfigDict, parameters: Parameters) -> TrainState:
    """The state before the first step, of parameters that are there already."""
    moments = (
        optimizer.init(group)
        for optimizer, group in zip(optimizers.of(config), parameters, strict=True)
    )
    average = parameters if config.train.ema_decay else ()
    return TrainState(jnp.zeros((), jnp.int32), parameters, Parameters(*moments), average)
