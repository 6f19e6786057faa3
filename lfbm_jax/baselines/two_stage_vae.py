"""The two-stage VAE of Dai and Wipf (2019), "Diagnosing and enhancing VAE models".

The first stage is a VAE whose observation noise gamma is learned. As gamma falls, its aggregated
posterior fills the latent space but is not N(0, I): a second, small VAE learns it from latent
vectors that the first one infers. Samples go through both: u ~ N(0, I) -> z -> x.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from lfbm_jax.errors import UserError
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.priors.base import Base
from lfbm_jax.runs import parts

STEPS_PER_CALL = 100


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The two stages; the second's settings are ours.

    Attributes:
        latent_dim: d, of z and of u.
        hidden_width: of the two hidden layers of the second stage's networks.
        num_steps, batch_size, learning_rate: of the second stage's training by Adam.
    """

    latent_dim: int
    hidden_width: int = 256
    num_steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 1e-3

    def __post_init__(self):
        parts.check_at_least_one(self, "baseline", "hidden_width", "num_steps", "batch_size")
        if not self.learning_rate > 0:
            raise UserError(f"baseline.learning_rate={self.learning_rate}: must be positive")

    def adapt(self, model: Model) -> Model:
        """The model with this objective and with the second stage as its prior."""
        if not getattr(model.inference, "has_density", False):
            raise UserError(
                "baseline.name='two_stage_vae': needs an inference network with a density;"
                " use the variant :two_stage_vae"
            )
        return dataclasses.replace(
            model, prior=SecondStage(self, model.sigma), objective=_objective
        )


@dataclasses.dataclass(frozen=True)
class SecondStage(Base):
    """A prior whose draws are those of a VAE on latent vectors, once that is fitted.

    Attributes:
        settings: of the second stage.
        sigma: what the learned gamma starts from.
    """

    settings: Baseline
    sigma: float

    # The density of its draws is an integral over u that is not known.
    normalized = False

    def init(self, key: jax.Array) -> dict:
        """log_gamma [], of the images, and the second stage's decoder and its own log_gamma."""
        return {"log_gamma": jnp.log(jnp.asarray(self.sigma, float)), **self._init_decoder(key)}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log N(z; 0, I), the first stage's prior, in nats; z [d]."""
        del prepared
        return jnp.sum(jax.scipy.stats.norm.logpdf(z))

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """u ~ N(0, I), then z ~ N(m(u), gamma_z^2 I), [d]."""
        u, noise = jax.random.normal(key, (2, self.settings.latent_dim))
        mean = self._decoder().apply(prepared["decoder"], u)
        return mean + jnp.exp(prepared["log_gamma_z"]) * noise

    def fit(self, alpha: dict, z: np.ndarray, seed: int) -> dict:
        """Trains the second stage from the start on latent vectors [N, d]; log_gamma stays."""
        settings, key = self.settings, jax.random.key(seed)
        encoder_key, decoder_key, batch_key = jax.random.split(key, 3)
        parameters = self._init_decoder(decoder_key)
        parameters["encoder"] = self._encoder().init(encoder_key, jnp.zeros(settings.latent_dim))
        adam = optax.adam(settings.learning_rate)
        moments = adam.init(parameters)

        def step(carry, i):
            parameters, moments = carry
            rows_key, noise_key = jax.random.split(jax.random.fold_in(batch_key, i))
            rows = jax.random.randint(rows_key, (settings.batch_size,), 0, len(z))
            keys = jax.random.split(noise_key, settings.batch_size)
            losses_of = jax.vmap(self._negative_elbo, (None, 0, 0))

            def mean_loss(parameters):
                return jnp.mean(losses_of(parameters, keys, z[rows]))

            loss, gradients = jax.value_and_grad(mean_loss)(parameters)
            updates, moments = adam.update(gradients, moments)
            return (optax.apply_updates(parameters, updates), moments), loss

        @jax.jit
        def several(parameters, moments, steps):
            return jax.lax.scan(step, (parameters, moments), steps)

        z = jnp.asarray(z, parameters["log_gamma_z"].dtype)
        with tqdm(total=settings.num_steps, desc="second stage", unit="step", delay=3) as bar:
            for first in range(0, settings.num_steps, STEPS_PER_CALL):
                steps = np.arange(first, min(first + STEPS_PER_CALL, settings.num_steps))
                (parameters, moments), losses = several(parameters, moments, steps)
                bar.update(len(losses))
                if not np.isfinite(losses).all():
                    raise FloatingPointError(
                        "the second stage's loss is not finite: lower baseline.learning_rate"
                    )
        del parameters["encoder"]
        return jax.device_get({"log_gamma": alpha["log_gamma"], **parameters})

    def _negative_elbo(self, parameters: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        mean, log_deviation = jnp.split(self._encoder().apply(parameters["encoder"], z), 2)
        u = mean + jnp.exp(log_deviation) * jax.random.normal(key, mean.shape, mean.dtype)
        decoded = self._decoder().apply(parameters["decoder"], u)
        log_p = jax.scipy.stats.norm.logpdf(z, decoded, jnp.exp(parameters["log_gamma_z"]))
        divergence = 0.5 * (mean**2 + jnp.exp(2 * log_deviation) - 1) - log_deviation
        return jnp.sum(divergence - log_p)

    def _init_decoder(self, key: jax.Array) -> dict:
        decoder = self._decoder().init(key, jnp.zeros(self.settings.latent_dim))
        return {"decoder": decoder, "log_gamma_z": jnp.zeros(())}

    def _decoder(self) -> nn.Module:
        return _Perceptron(self.settings.hidden_width, self.settings.latent_dim)

    def _encoder(self) -> nn.Module:
        return _Perceptron(self.settings.hidden_width, 2 * self.settings.latent_dim)


class _Perceptron(nn.Module):
    """Two hidden layers; the output layer sees the input beside them."""

    width: int
    features: int

    @nn.compact
    def __call__(self, vector: jax.Array) -> jax.Array:
        hidden = vector
        for _ in range(2):
            hidden = nn.relu(nn.Dense(self.width, param_dtype=float)(hidden))
        last = nn.Dense(self.features, param_dtype=float)
        return last(jnp.concatenate([hidden, vector]))


def _objective(
    model: Model, prepared: Parameters, frozen: Parameters, keys: dict, example: Example
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The first stage's negative ELBO, with gamma learned; arguments as `learning.objective`."""
    x, mask = example.image, example.mask
    posterior = model.inference.infer(
        prepared.phi, keys["inference"], example, model.log_joint(frozen, x, mask)
    )
    image = model.decode(prepared, posterior.z)
    log_gamma = prepared.alpha["log_gamma"]
    squares = jnp.square(x - image)
    entries = x.size if mask is None else jnp.sum(jnp.broadcast_to(mask, x.shape))
    error = jnp.sum(squares if mask is None else squares * mask)
    loss_generator = 0.5 * error * jnp.exp(-2 * log_gamma) + entries * (
        log_gamma + 0.5 * math.log(2 * math.pi)
    )
    loss_prior = model.prior.loss(prepared.alpha, keys["prior_loss"], posterior.z)
    loss = loss_generator + loss_prior + posterior.log_q
    metrics: dict[str, Any] = {
        "loss_generator": loss_generator,
        "loss_prior": loss_prior,
        "elbo": -loss,
        "gamma": jnp.exp(log_gamma),
        "mse": error / entries,
        **posterior.info,
    }
    return loss, metrics
