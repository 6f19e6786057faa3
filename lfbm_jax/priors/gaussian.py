"""The standard normal prior, which makes the model that of alternating back-propagation."""

import dataclasses

import jax
import jax.numpy as jnp

from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """p(z) = N(z; 0, I), without parameters (ABP: Han et al., 2017)."""

    def init(self, key: jax.Array) -> dict:
        """An empty tree: this prior has no parameters."""
        del key
        return {}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log N(z; 0, I) in nats; z [d]."""
        del prepared
        return jnp.sum(jax.scipy.stats.norm.logpdf(z))

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]."""
        del prepared
        return jax.random.normal(key, (self.latent_dim,))
