"""The common base of the normalizing-flow priors: a stack of steps of the same kind.

Steps are written and numbered in the direction z -> z0, which Langevin dynamics computes at every
step. Sampling applies them in reverse. Every parameter array has a leading axis of steps.
"""

import dataclasses
import math

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.layers import bijectors, folded_flow

# Standard deviation of the initial actnorm biases and log-scales.
ACTNORM_STDDEV = 0.05
# Standard deviation of the initial hidden kernels of a coupling. Both values are the authors'.
KERNEL_STDDEV = 0.05


@dataclasses.dataclass(frozen=True)
class Flow:
    """p_alpha(z) = N(f^-1(z); 0, I) |det d f^-1 / dz|, Eq. 2, with f a chain of steps.

    A mixin, to be listed before `priors.base.Prior`. A prior adds `_init_step(key)`, the parameters
    of one step; `_step(prepared_step)`, one step as a bijector whose inverse is z -> z0;
    `_log_scale(step, *raw)`, the log-scales of a coupling; and `prepare(alpha)`, which returns

        steps: the arguments of `_step` with a leading axis of steps, for `forward` and `inverse`;
        folded, log_det: for `log_prob`, the steps multiplied out and the log-determinant of all
            their linear maps (see `folded_flow`).

    Attributes:
        latent_dim: d, a field of every prior.
        num_steps: number of steps; the paper's default is 5 (appendix D), 10 at 256 x 256.
        hidden_width: width of the two hidden layers of every coupling network.
    """

    latent_dim: int
    num_steps: int = 5
    hidden_width: int = 64

    def __post_init__(self):
        if self.latent_dim < 2:
            raise UserError(
                f"model.latent_dim={self.latent_dim}: a coupling splits the latent vector in two,"
                " so it needs at least 2 dimensions"
            )
        check_at_least_one("prior", num_steps=self.num_steps, hidden_width=self.hidden_width)

    def init(self, key: jax.Array) -> dict:
        """Parameters alpha; every array has a leading axis of steps, in the order z -> z0."""
        return jax.vmap(self._init_step)(jax.random.split(key, self.num_steps))

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, Eq. 5; z [d]. The base contributes -(d/2) log 2 pi."""
        z0, log_det = folded_flow.inverse_and_log_det(prepared["folded"], self._log_scale, z)
        log_normalizer = 0.5 * self.latent_dim * math.log(2 * math.pi)
        return prepared["log_det"] + log_det - 0.5 * jnp.sum(jnp.square(z0)) - log_normalizer

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One exact draw z = f(z0), z0 ~ N(0, I), Eq. 1; [d]."""
        return self.forward(prepared, jax.random.normal(key, (self.latent_dim,)))

    def forward(self, prepared: dict, z0: jax.Array) -> jax.Array:
        """z = f(z0), Eq. 1; [d]."""

        def step(z, prepared_step):
            return self._step(prepared_step).forward(z), None

        return jax.lax.scan(step, z0, prepared["steps"], reverse=True)[0]

    def inverse(self, prepared: dict, z: jax.Array) -> jax.Array:
        """z0 = f^-1(z), [d]."""
        return self._inverse_and_log_det(prepared, z)[0]

    def _inverse_and_log_det(self, prepared: dict, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z0 and log|det dz0/dz|, computed bijector by bijector."""

        def step(z, prepared_step):
            return self._step(prepared_step).inverse_and_log_det(z)

        z0, log_dets = jax.lax.scan(step, z, prepared["steps"])
        return z0, jnp.sum(log_dets)

    @property
    def _num_outputs(self) -> int:
        """How many vectors a coupling's network returns: here a shift and raw scales."""
        return 2

    def _coupling(self, network: dict, step: dict) -> bijectors.AffineCoupling:
        """The coupling of a step; `network` has the parameters of its network."""

        def conditioner(first):
            output = self._conditioner().apply({"params": network}, first)
            shift, *raw = jnp.split(output, self._num_outputs)
            return shift, jnp.broadcast_to(self._log_scale(step, *raw), shift.shape)

        return bijectors.AffineCoupling(conditioner)

    def _conditioner(self) -> "Conditioner":
        second_half = self.latent_dim - self.latent_dim // 2
        return Conditioner(self.hidden_width, self._num_outputs * second_half)

    def _init_coupling(self, key: jax.Array) -> dict:
        """Random parameters of one coupling's network."""
        return self._conditioner().init(key, jnp.zeros(self.latent_dim // 2))["params"]

    def _log_scale(self, step: dict, *raw: jax.Array) -> jax.Array | float:
        """The log-scales of a coupling, [d - d // 2], from its network's raw scales."""
        raise NotImplementedError

    def _init_step(self, key: jax.Array) -> dict:
        raise NotImplementedError

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        raise NotImplementedError


class Conditioner(nn.Module):
    """A network of two hidden layers relu(actnorm(h W)) and an output (h W + b) exp(3 s).

    The output layer is zero-initialised. The hidden layers have no bias because actnorm has one.

    Attributes:
        hidden_width: width of both hidden layers.
        features: width of the output.
    """

    hidden_width: int
    features: int

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        hidden = first
        for i in range(2):
            hidden = nn.Dense(
                self.hidden_width,
                use_bias=False,
                kernel_init=nn.initializers.normal(KERNEL_STDDEV),
                param_dtype=float,
            )(hidden)
            actnorm = self.param(f"actnorm_{i}", init_actnorm, self.hidden_width)
            hidden = nn.relu(bijectors.ActNorm(**actnorm).inverse(hidden))
        output = nn.Dense(self.features, kernel_init=nn.initializers.zeros, param_dtype=float)(
            hidden
        )
        log_scale = self.param("log_scale", nn.initializers.zeros, (self.features,), float)
        return output * jnp.exp(bijectors.LOG_SCALE_FACTOR * log_scale)


def init_actnorm(key: jax.Array, width: int) -> dict:
    """Small random biases and log-scales of an actnorm layer."""
    bias_key, scale_key = jax.random.split(key)
    return {
        "bias": ACTNORM_STDDEV * jax.random.normal(bias_key, (width,)),
        "log_scale": ACTNORM_STDDEV * jax.random.normal(scale_key, (width,)),
    }
