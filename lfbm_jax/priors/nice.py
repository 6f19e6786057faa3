"""NICE on the latent vector (Dinh, Krueger and Bengio, 2015)."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors, folded_flow
from lfbm_jax.layers.flows import Flow
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow of additive couplings and a diagonal scale, which comes last in the direction z -> z0.

    Additive couplings preserve volume, so log|det| comes from the scale alone. The vector is
    reversed after every coupling, so the couplings transform the two halves in turn.

    Attributes: see `Flow`.
    """

    @property
    def _num_outputs(self) -> int:
        """See `Flow`; a shift alone."""
        return 1

    def init(self, key: jax.Array) -> dict:
        """Parameters alpha: stacked steps, and log-scales [d] initialised to zero."""
        return {"steps": super().init(key), "log_scale": jnp.zeros(self.latent_dim)}

    def prepare(self, alpha: dict) -> dict:
        """See `Flow`. The last reversal is omitted, and the scales are reversed instead."""
        matrices = folded_flow.reversals(self.num_steps, self.latent_dim)
        folded = folded_flow.fold(
            matrices,
            jnp.zeros(matrices.shape[:2]),
            alpha["steps"],
            last_scale=jnp.exp(alpha["log_scale"][::-1]),
        )
        return {**alpha, "folded": folded, "log_det": jnp.sum(alpha["log_scale"])}

    def forward(self, prepared: dict, z0: jax.Array) -> jax.Array:
        """z = f(z0), Eq. 1; [d]."""
        return super().forward(prepared, z0 * jnp.exp(-prepared["log_scale"]))

    def _inverse_and_log_det(self, prepared: dict, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, _ = super()._inverse_and_log_det(prepared, z)
        return h * jnp.exp(prepared["log_scale"]), jnp.sum(prepared["log_scale"])

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One step. Its inverse, z -> z0, applies this list from first to last."""
        return distrax.Chain([self._coupling(prepared_step, prepared_step), bijectors.Reverse()])

    def _log_scale(self, step: dict, *raw: jax.Array) -> float:
        del step, raw
        return 0.0

    def _init_step(self, key: jax.Array) -> dict:
        return self._init_coupling(key)
