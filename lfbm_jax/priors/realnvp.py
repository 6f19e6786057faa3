"""RealNVP on the latent vector (Dinh, Sohl-Dickstein and Bengio, 2017)."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors
from lfbm_jax.layers.flows import Conditioner, Flow
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow whose steps are an affine coupling and a reversal of the vector.

    The reversal makes the masks alternate: what one coupling left alone, the next one transforms.
    Log-scales are r tanh(raw) with a learned r for every dimension, which starts at 1.

    Attributes: see `Flow`.
    """

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One step. Its inverse, z -> z0, goes through this list from first to last."""
        coupling = {"params": prepared_step["coupling"]}

        def conditioner(first):
            shift, raw = jnp.split(self._conditioner().apply(coupling, first), 2)
            return shift, prepared_step["range"] * jnp.tanh(raw)

        return distrax.Chain([bijectors.AffineCoupling(conditioner), bijectors.Reverse()])

    def _conditioner(self) -> Conditioner:
        return Conditioner(self.hidden_width, 2 * (self.latent_dim - self.latent_dim // 2))

    def _init_step(self, key: jax.Array) -> dict:
        half = self.latent_dim // 2
        return {
            "coupling": self._conditioner().init(key, jnp.zeros(half))["params"],
            "range": jnp.ones(self.latent_dim - half),
        }
