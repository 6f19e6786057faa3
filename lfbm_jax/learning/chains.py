"""The chains of the training images, where inference keeps them: z of every image, [N, d].

Every device has all of them; each takes up those of its examples and hears of the others' ends, so
that all agree. Without such inference they are None and nothing is done.
"""

import jax
import jax.numpy as jnp

from lfbm_jax.devices import sharding
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model

Chains = jax.Array | None


def initial(model: Model, latent_dim: int, seed: int, num_images: int) -> Chains:
    """Draws from N(0, I), in the default floating type; None where inference keeps no chains.

    And None where there are no images, for a state that is not going to be trained.
    """
    if not num_images or not model.inference.keeps_chains:
        return None
    return jax.random.normal(key_for(seed, Purpose.CHAINS), (num_images, latent_dim))


def take_up(chains: Chains, batch: Example) -> Example:
    """One device's examples with the places where their chains start."""
    return batch if chains is None else batch._replace(start=chains[batch.index])


def keep(chains: Chains, batch: Example, ends: jax.Array | None) -> Chains:
    """The chains after all devices have ended theirs; padding is left out.

    Args:
        chains: as they were.
        batch: one device's examples, a leading axis [shard].
        ends: where their chains ended, [microbatches, at most shard, d]; None where none ran.
    """
    if chains is None or ends is None:
        return chains
    z = ends.reshape(-1, ends.shape[-1])[: len(batch.index)]
    nowhere = len(chains)
    index = jnp.where(batch.weight > 0, batch.index, nowhere)
    index, z = jax.lax.all_gather((index, z), sharding.AXIS, tiled=True)
    return chains.at[index].set(z, mode="drop")
