"""NICE on the latent vector (Dinh, Krueger and Bengio, 2015)."""

import dataclasses

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors
from lfbm_jax.layers.flows import Conditioner, Flow


@dataclasses.dataclass(frozen=True)
class Prior(Flow):
    """A flow of additive couplings and, last in the direction z -> z0, a diagonal scale.

    Couplings keep volumes, so that all of log|det| is the scale's. A reversal of the vector after
    every coupling makes the masks alternate.

    Attributes: see `Flow`.
    """

    def init(self, key: jax.Array) -> dict:
        """Parameters alpha: stacked steps, and log-scales [d] that start at zero."""
        return {"steps": super().init(key), "log_scale": jnp.zeros(self.latent_dim)}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats; z [d]."""
        log_scale = prepared["log_scale"]

        def step(z, prepared_step):
            return self._step(prepared_step).inverse(z), None

        h = jax.lax.scan(step, z, prepared["steps"])[0]
        log_prob = jax.scipy.stats.norm.logpdf(h * jnp.exp(log_scale)) + log_scale
        return jnp.sum(log_prob)

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One exact draw, [d]."""

        def step(z, prepared_step):
            return self._step(prepared_step).forward(z), None

        h = jax.random.normal(key, (self.latent_dim,)) * jnp.exp(-prepared["log_scale"])
        return jax.lax.scan(step, h, prepared["steps"], reverse=True)[0]

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
