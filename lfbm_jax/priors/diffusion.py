"""A diffusion model of the latent vector, learned from inferred z.

Diffusion-amortised MCMC (Yu et al., 2023) draws z from a diffusion model that has learned the ends
of its chains. Here such a model, without an image, is the prior itself. Its network predicts the
noise in z_lambda (`layers/diffusion.py`), and so the score of the density of z_lambda:

    grad log p_lambda(z_lambda) = -predict(z_lambda, lambda) / s.

Langevin dynamics reads that score at one low noise level. The prior is thus the law of z blurred by
noise of deviation blur / sqrt(1 - blur^2), which one evaluation of the network per step gives,
without a gradient. Using it so, with chains on the posterior, is ours; published models of this
kind infer z by an encoder (Vahdat et al., 2021, "Score-based generative modeling in latent space").
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.layers import denoiser, diffusion
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """p(z) by a diffusion model; N(0, I) until it has learned.

    `log_prob` is a lower bound of log p_alpha(z) in expectation over the noise, for which it takes
    fixed noise: it compares a z with others and is no density that integrates to one. Its gradient
    in z is the score that the network gives, not the slope of that bound. All sizes are ours.

    Attributes:
        hidden_width, num_layers: of the network, see `denoiser.Denoiser`.
        blur: s at the noise level at which the score is read, within the levels that the network
            learns.
        num_steps: predictions per draw, at least 2.
        num_draws: noise levels and noises per inferred z that teach the network in an update.
    """

    hidden_width: int = 128
    num_layers: int = 4
    blur: float = 0.1
    num_steps: int = 20
    num_draws: int = 6

    normalized = False
    has_potential = False

    def __post_init__(self):
        check_at_least_one(
            "prior",
            hidden_width=self.hidden_width,
            num_layers=self.num_layers,
            num_draws=self.num_draws,
        )
        diffusion.check_num_steps(self.num_steps, "prior.num_steps")
        least, most = (
            math.sqrt(1 / (1 + math.exp(level)))
            for level in (diffusion.LEAST_NOISE, diffusion.MOST_NOISE)
        )
        if not least <= self.blur <= most:
            raise UserError(
                f"prior.blur={self.blur}: must be from {least:.4f} to {most:.3f}, the noise that"
                " the network learns"
            )

    def init(self, key: jax.Array) -> dict:
        """Random parameters of the network, whose last layer is zero."""
        z = jnp.zeros(self.latent_dim)
        return self._network().init(key, z, jnp.zeros(()), self._nothing())["params"]

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """The bound down to the blur in nats, []; z [d].

        Its gradient in z is the score; it has none in alpha.
        """
        prepared, fixed = jax.lax.stop_gradient((prepared, z))
        bound = diffusion.bound(self._given(prepared), fixed, self._level(z.dtype))
        return bound + jnp.dot(z - fixed, self._score(prepared, fixed))

    def loss(self, prepared: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        """The mean squared error of the predicted noise, halved and summed over entries, [].

        Its gradient in alpha is that of the error, in z that of -log_prob.
        """
        keys = jax.random.split(key, self.num_draws)
        fixed = jax.lax.stop_gradient(z)
        error = jax.vmap(lambda key: diffusion.loss(self._given(prepared), key, fixed))(keys)
        slope = self._score(jax.lax.stop_gradient(prepared), fixed)
        return jnp.mean(error) - jnp.dot(z - fixed, slope)

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d], by reverse diffusion."""
        return diffusion.sample(self._given(prepared), key, self.latent_dim, self.num_steps)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the network and takes few steps."""
        few = {"hidden_width": 8, "num_layers": 2, "num_steps": 3, "num_draws": 2}
        return super().smoke_settings(settings) | few

    def _score(self, prepared: dict, z: jax.Array) -> jax.Array:
        """The gradient in z of log p_lambda(a z) at the level of the blur, [d]."""
        signal = math.sqrt(1 - self.blur**2)
        predicted = self._given(prepared)(signal * z, self._level(z.dtype))
        return -signal / self.blur * predicted

    def _level(self, dtype: jnp.dtype) -> jax.Array:
        """lambda at the blur."""
        return jnp.asarray(math.log(1 / self.blur**2 - 1), dtype)

    def _given(self, prepared: dict) -> diffusion.Predict:
        """The prediction of the noise in z_lambda: s (z_lambda + correction).

        Without the correction it is right for z ~ N(0, I), at every noise level.
        """
        network = self._network()

        def predict(z, level):
            deviation = jnp.sqrt(jax.nn.sigmoid(-level))
            return deviation * network.apply({"params": prepared}, z, level, self._nothing())

        return predict

    def _network(self) -> denoiser.Denoiser:
        return denoiser.Denoiser(self.hidden_width, self.num_layers)

    def _nothing(self) -> jax.Array:
        """What the network is given beside z: a vector without entries."""
        return jnp.zeros(0)
