"""The prior with several layers of Nijkamp et al. (2020); see `inference/sri.py`."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.priors import base

# Bounds |r_l|, the log standard deviation of a layer given the one above. Langevin dynamics with
# step size s diverges where s^2/2 exp(-2 r_l) exceeds 2.
MAX_LOG_DEVIATION = 1.0


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """z = (z_1, ..., z_L) with z_L ~ N(0, I) and z_l ~ N(m_l(z_{l+1}), diag(exp(2 r_l(z_{l+1})))).

    Each layer has d / L entries. For each layer below the top, a perceptron computes m_l and r_l.
    The generator sees z_1. The widths are ours.

    Attributes:
        num_layers: L, a divisor of d.
        hidden_width: width of the perceptrons' hidden layer.
    """

    num_layers: int = 1
    hidden_width: int = 128

    def __post_init__(self):
        check_at_least_one("prior", num_layers=self.num_layers, hidden_width=self.hidden_width)
        if self.latent_dim % self.num_layers:
            raise UserError(
                f"prior.num_layers={self.num_layers}: must divide"
                f" model.latent_dim={self.latent_dim}"
            )

    @property
    def generator_dim(self) -> int:
        """d / L."""
        return self.latent_dim // self.num_layers

    def init(self, key: jax.Array) -> dict:
        """Alpha: layer_l has the parameters of the perceptron for z_l given z_{l+1}."""
        keys = jax.random.split(key, self.num_layers)
        above = jnp.zeros(self.generator_dim)
        return {f"layer_{i}": self._network().init(keys[i], above) for i in self._below_top()}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p(z_L) + sum_l log p(z_l|z_{l+1}) in nats; z [d]."""
        layers = z.reshape(self.num_layers, self.generator_dim)
        total = jnp.sum(jax.scipy.stats.norm.logpdf(layers[-1]))
        for i in self._below_top():
            mean, log_deviation = self._moments(prepared[f"layer_{i}"], layers[i])
            log_prob = jax.scipy.stats.norm.logpdf(layers[i - 1], mean, jnp.exp(log_deviation))
            total = total + jnp.sum(log_prob)
        return total

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d], made from the top layer down."""
        noise = jax.random.normal(key, (self.num_layers, self.generator_dim))
        layers = [noise[-1]]
        for i in reversed(self._below_top()):
            mean, log_deviation = self._moments(prepared[f"layer_{i}"], layers[0])
            layers.insert(0, mean + jnp.exp(log_deviation) * noise[i - 1])
        return jnp.concatenate(layers)

    def _below_top(self) -> range:
        """The numbers of the layers below the top one."""
        return range(1, self.num_layers)

    def _moments(self, parameters: Any, above: jax.Array) -> tuple[jax.Array, jax.Array]:
        moments: Any = self._network().apply(parameters, above)
        mean, raw = jnp.split(moments, 2)
        # Bounded, so that deviations cannot grow from layer to layer.
        return mean, MAX_LOG_DEVIATION * jnp.tanh(raw / MAX_LOG_DEVIATION)

    def _network(self) -> nn.Module:
        return nn.Sequential(
            [
                nn.Dense(self.hidden_width, param_dtype=float),
                nn.gelu,
                # Zero-initialised, so that at first all layers are independent standard normals.
                nn.Dense(
                    2 * self.generator_dim, param_dtype=float, kernel_init=nn.initializers.zeros
                ),
            ]
        )
