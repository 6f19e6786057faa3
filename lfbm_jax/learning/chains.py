"""The persistent chains of the training images: the last z of every image, [N, d].

Every device holds all chains. Each device runs the chains of its own examples and then gathers the
results of the other devices, so that all copies agree. If inference keeps no chains, they are None
and these functions do nothing.
"""

import jax
import jax.numpy as jnp

from lfbm_jax.devices import sharding
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model

Chains = jax.Array | None


def initial(model: Model, latent_dim: int, seed: int, num_images: int) -> Chains:
    """Draws from N(0, I) in the default floating type; None if inference keeps no chains.

    Also None if `num_images` is 0, for a state that will not be trained.
    """
    if not num_images or not model.inference.keeps_chains:
        return None
    return jax.random.normal(key_for(seed, Purpose.CHAINS), (num_images, latent_dim))


def take_up(chains: Chains, batch: Example) -> Example:
    """One device's examples, with the start of each chain filled in."""
    return batch if chains is None else batch._replace(start=chains[batch.index])


def keep(chains: Chains, batch: Example, ends: jax.Array | None) -> Chains:
    """The chains, updated with the final z of the examples of all devices except padding.

    Args:
        chains: the chains before the update.
        batch: one device's examples, with a leading axis [shard].
        ends: the final z of these examples, [microbatches, at most shard, d]; None if no z was
            inferred.
    """
    if chains is None or ends is None:
        return chains
    z = ends.reshape(-1, ends.shape[-1])[: len(batch.index)]
    nowhere = len(chains)
    index = jnp.where(batch.weight > 0, batch.index, nowhere)
    index, z = jax.lax.all_gather((index, z), sharding.AXIS, tiled=True)
    return chains.at[index].set(z, mode="drop")
