"""The second stage of the two-stage VAE of Dai and Wipf (2019), "Diagnosing and enhancing VAE
models", as a prior.

The first stage is a VAE with the prior N(0, I) and learned observation noise
(`model.learned_sigma`). As the noise falls, the aggregated posterior fills the latent space but is
not N(0, I). A second, small VAE learns the aggregated posterior from latent vectors that the first
stage infers. Sampling uses both stages: u ~ N(0, I) -> z -> x.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import check_at_least_one, check_positive
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers.fit_by_adam import fit_by_adam
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """N(0, I) while the generator learns, and afterwards a VAE on z, from which samples are drawn.

    The second stage's sizes and length of training are ours.

    Attributes:
        hidden_width: width of the two hidden layers in the second stage's networks.
        num_epochs, batch_size, learning_rate: settings for training the second stage with Adam. In
            each epoch, a new z is drawn for every training image.
    """

    hidden_width: int = 256
    num_epochs: int = 50
    batch_size: int = 100
    learning_rate: float = 1e-3

    # The density of its samples is an intractable integral over u.
    normalized = False
    fitted_afterwards = True

    def __post_init__(self):
        check_at_least_one(
            "prior",
            hidden_width=self.hidden_width,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
        )
        check_positive("prior", learning_rate=self.learning_rate)

    def init(self, key: jax.Array) -> dict:
        """The second stage's decoder, its log_gamma, and fitted = 0."""
        return {**self._init_decoder(key), "fitted": jnp.zeros(())}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log N(z; 0, I), the first stage's prior, in nats; z [d]."""
        del prepared
        return jnp.sum(jax.scipy.stats.norm.logpdf(z))

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """u ~ N(0, I), then z ~ N(m(u), gamma^2 I), [d]; N(0, I) until it is fitted."""
        u, noise = jax.random.normal(key, (2, self.latent_dim))
        mean = self._decoder().apply(prepared["decoder"], u)
        second_stage = mean + jnp.exp(prepared["log_gamma"]) * noise
        return jnp.where(prepared["fitted"] > 0, second_stage, noise)

    def fit(self, alpha: dict, draw: Callable[[int], np.ndarray], seed: int) -> dict:
        """Trains the second stage from scratch, on a new draw of z in every epoch."""
        encoder_key, decoder_key, noise_key = jax.random.split(key_for(seed, Purpose.FIT), 3)
        parameters = self._init_decoder(decoder_key)
        parameters["encoder"] = self._encoder().init(encoder_key, jnp.zeros(self.latent_dim))
        parameters = fit_by_adam(
            self._negative_elbo,
            parameters,
            draw,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            key=noise_key,
            seed=seed,
            name="second stage",
        )
        del parameters["encoder"]
        return jax.device_get(parameters | {"fitted": jnp.ones_like(alpha["fitted"])})

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Shortens the second stage's training to two epochs."""
        return settings | {"num_epochs": 2}

    def _negative_elbo(self, parameters: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        moments: Any = self._encoder().apply(parameters["encoder"], z)
        mean, log_deviation = jnp.split(moments, 2)
        u = mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape, mean.dtype)
        decoded: Any = self._decoder().apply(parameters["decoder"], u)
        log_p = jax.scipy.stats.norm.logpdf(z, decoded, jnp.exp(parameters["log_gamma"]))
        divergence = 0.5 * (mean**2 + jnp.exp(2 * log_deviation) - 1) - log_deviation
        return jnp.sum(divergence - log_p)

    def _init_decoder(self, key: jax.Array) -> dict:
        decoder = self._decoder().init(key, jnp.zeros(self.latent_dim))
        return {"decoder": decoder, "log_gamma": jnp.zeros(())}

    def _decoder(self) -> nn.Module:
        return _Perceptron(self.hidden_width, self.latent_dim)

    def _encoder(self) -> nn.Module:
        return _Perceptron(self.hidden_width, 2 * self.latent_dim)


class _Perceptron(nn.Module):
    """A network of two hidden layers whose output layer also sees the input."""

    width: int
    features: int

    @nn.compact
    def __call__(self, vector: jax.Array) -> jax.Array:
        hidden = vector
        for _ in range(2):
            hidden = nn.relu(nn.Dense(self.width, param_dtype=float)(hidden))
        last = nn.Dense(self.features, param_dtype=float)
        return last(jnp.concatenate([hidden, vector]))
