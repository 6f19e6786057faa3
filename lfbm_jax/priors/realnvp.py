"""RealNVP on the latent vector (Dinh, Sohl-Dickstein and Bengio, 2017)."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors, folded_flow
from lfbm_jax.layers.flows import Flow
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow whose steps are an affine coupling and a reversal of the vector.

    Because of the reversal, each coupling transforms the half that the previous one left unchanged.
    Log-scales are r tanh(raw), with a learned r for every dimension, initialised to 1.

    Attributes: see `Flow`.
    """

    def prepare(self, alpha: dict) -> dict:
        """See `Flow`. The last reversal is omitted: the order of z0 does not change its density."""
        matrices = folded_flow.reversals(self.num_steps, self.latent_dim)
        folded = folded_flow.fold(
            matrices, jnp.zeros(matrices.shape[:2]), alpha["coupling"], range=alpha["range"]
        )
        return {"steps": alpha, "folded": folded, "log_det": jnp.zeros(())}

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One step. Its inverse, z -> z0, applies this list from first to last."""
        coupling = self._coupling(prepared_step["coupling"], prepared_step)
        return distrax.Chain([coupling, bijectors.Reverse()])

    def _log_scale(self, step: dict, *raw: jax.Array) -> jax.Array:
        return step["range"] * jnp.tanh(raw[0])

    def _init_step(self, key: jax.Array) -> dict:
        second_half = self.latent_dim - self.latent_dim // 2
        return {"coupling": self._init_coupling(key), "range": jnp.ones(second_half)}
