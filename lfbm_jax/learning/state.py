"""The training state and its initialisation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.learning import chains, optimizers
from lfbm_jax.model import Model, Parameters


class TrainState(NamedTuple):
    """Everything that training changes.

    Attributes:
        step: finished iterations of Algorithm 1, int32 [].
        parameters: alpha, beta, phi, psi.
        opt_state: the state of each group's optimizer, see `optimizers`.
        average: the exponential moving average of the parameters; None if it is off.
        chains: the last z of every training image, [N, d]; None if inference keeps no chains.
    """

    step: jax.Array
    parameters: Parameters
    opt_state: Parameters
    average: Parameters | None = None
    chains: jax.Array | None = None


def init_state(
    config: ml_collections.ConfigDict, model: Model, num_images: int = 0
) -> TrainState:
    """The state before the first step of training on `num_images` images."""
    # Compiled as a whole, because the initialisers take many times as long op by op.
    parameters = jax.jit(model.init)(key_for(config.seed, Purpose.PARAMETERS))
    started = chains.initial(model, config.model.latent_dim, config.seed, num_images)
    return first_state(config, parameters)._replace(chains=started)


def first_state(config: ml_collections.ConfigDict, parameters: Parameters) -> TrainState:
    """The state before the first step, with the given parameters and without chains."""
    opt_state = optimizers.init(config, parameters)
    average = parameters if config.train.ema_decay else None
    return TrainState(jnp.zeros((), jnp.int32), parameters, opt_state, average)
