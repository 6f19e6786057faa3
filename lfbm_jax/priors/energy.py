"""The energy-based prior of LEBM (Pang et al., 2020): p(z) proportional to exp(f(z)) N(z; 0, I)."""

import dataclasses
import functools
import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one, check_positive, did_you_mean
from lfbm_jax.layers import langevin_step, spectral_norm
from lfbm_jax.priors import base

ACTIVATIONS = {
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.2),
    "gelu": functools.partial(nn.gelu, approximate=False),
}


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """A prior with a perceptron f, sampled by short runs of Langevin dynamics from N(0, I).

    The defaults are the settings of the LEBM authors' code at 32 x 32.

    Attributes:
        hidden_width: width of the hidden layers.
        num_layers: number of linear layers, at least 1.
        num_steps: Langevin steps per draw.
        step_size: s of these steps: drift s^2 / 2, noise s.
        activation: the hidden layers' activation: "leaky_relu" (slope 0.2) or "gelu" (exact).
        spectral_norm: whether every matrix is divided by its largest singular value.
    """

    hidden_width: int = 200
    num_layers: int = 3
    num_steps: int = 60
    step_size: float = 0.4
    activation: str = "leaky_relu"
    spectral_norm: bool = False

    normalized = False

    def __post_init__(self):
        check_at_least_one(
            "prior",
            hidden_width=self.hidden_width,
            num_layers=self.num_layers,
            num_steps=self.num_steps,
        )
        check_positive("prior", step_size=self.step_size)
        if self.activation not in ACTIVATIONS:
            near = did_you_mean(self.activation, ACTIVATIONS)
            raise UserError(f"prior.activation={self.activation!r}: {near}")

    def init(self, key: jax.Array) -> dict:
        """Weights and biases uniform within 1 / sqrt(fan_in), PyTorch's default for linear layers.

        The initialisation in the authors' code applies only to convolutions.
        """
        widths = [self.latent_dim, *[self.hidden_width] * (self.num_layers - 1), 1]
        keys = jax.random.split(key, self.num_layers)
        alpha = {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            # The last row is the bias.
            bound = 1 / math.sqrt(fan_in)
            values = jax.random.uniform(keys[i], (fan_in + 1, fan_out), float, -bound, bound)
            alpha[f"layer_{i}"] = {"kernel": values[:-1], "bias": values[-1]}
        return alpha

    def prepare(self, alpha: dict) -> dict:
        """Alpha, with matrices divided by their largest singular values if `spectral_norm`."""
        return jax.tree.map(spectral_norm.normalized, alpha) if self.spectral_norm else alpha

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """f(z) + log N(z; 0, I): the log-density up to the constant log Z; z [d]."""
        return self._f(prepared, z) + jnp.sum(jax.scipy.stats.norm.logpdf(z))

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """The final z of a short run of Langevin dynamics from N(0, I), [d]."""
        start_key, noise_key = jax.random.split(key)

        def step(z, i):
            gradient = jax.grad(self.log_prob, argnums=1)(prepared, z)
            noise = jax.random.normal(jax.random.fold_in(noise_key, i), z.shape, z.dtype)
            return langevin_step.step(z, gradient, self.step_size, noise), None

        start = jax.random.normal(start_key, (self.latent_dim,))
        return jax.lax.scan(step, start, jnp.arange(self.num_steps))[0]

    def loss(self, prepared: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        """-log p(z), with log Z replaced by f at one sample from p.

        Its gradient in alpha is that of E_p[f] - f(z), with the expectation estimated from the
        sample. Its gradient in z is that of -log p(z).
        """
        negative = jax.lax.stop_gradient(self.sample(jax.lax.stop_gradient(prepared), key))
        return self._f(prepared, negative) - self.log_prob(prepared, z)

    def _f(self, prepared: dict, z: jax.Array) -> jax.Array:
        hidden = z
        for i in range(self.num_layers):
            layer = prepared[f"layer_{i}"]
            hidden = hidden @ layer["kernel"] + layer["bias"]
            if i < self.num_layers - 1:
                hidden = ACTIVATIONS[self.activation](hidden)
        return hidden[0]
