"""NICE on the latent vector (Dinh, Krueger and Bengio, 2015)."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors
from lfbm_jax.layers.flows import Conditioner, Flow
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow of additive couplings and, last in the direction z -> z0, a diagonal scale.

    Couplings keep volumes, so that all of log|det| is the scale's. A reversal of the vector after
    every coupling makes the masks alternate.

    Attributes: see `Flow`.
    """

    def init(self, key: jax.Array) -> dict:
        """Parameters alpha: stacked steps, and log-scales [d] that start at zero."""
        return {"steps": super().init(key), "log_scale": jnp.zeros(self.latent_dim)}

    def forward(self, prepared: dict, z0: jax.Array) -> jax.Array:
        """z = f(z0), Eq. 1; [d]."""
        return super().forward(prepared["steps"], z0 * jnp.exp(-prepared["log_scale"]))

    def _inverse_and_log_det(self, prepared: dict, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, _ = super()._inverse_and_log_det(prepared["steps"], z)
        return h * jnp.exp(prepared["log_scale"]), jnp.sum(prepared["log_scale"])

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One step. Its inverse, z -> z0, goes through this list from first to last."""

        def conditioner(first):
            shift = self._conditioner().apply({"params": prepared_step}, first)
            return shift, jnp.zeros_like(shift)

        return distrax.Chain([bijectors.AffineCoupling(conditioner), bijectors.Reverse()])

    def _conditioner(self) -> Conditioner:
        return Conditioner(self.hidden_width, self.latent_dim - self.latent_dim // 2)

    def _init_step(self, key: jax.Array) -> dict:
        return self._conditioner().init(key, jnp.zeros(self.latent_dim // 2))["params"]
