"""Short-run Langevin dynamics on the posterior of the latent vector, Eq. 8."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError
from lfbm_jax.inference import LogJoint, Posterior

# Evaluation without settings of its own: as the authors do, ascent of 400 steps.
EVALUATION = {"num_steps": 400, "noise": False}


@dataclasses.dataclass(frozen=True)
class Inference:
    """K steps of z <- z + (s^2 / 2) grad_z log p(x, z) + s * noise, from z ~ N(0, I).

    `step_size` is s; the xi of the paper's Eq. 8 is s^2 / 2, so that the drift is xi times the
    gradient and the noise sqrt(2 xi) times a standard normal.

    Attributes:
        latent_dim: d.
        num_steps: K, at least 1.
        step_size: s, positive, in units of z.
        noise: whether the chain is stochastic; without noise it is gradient ascent on
            log p(x, z), as the evaluation of the authors does.
    """

    latent_dim: int
    num_steps: int = 20
    step_size: float = 0.1
    noise: bool = True

    takes_masks = True  # log_joint may be of some pixels of the image only

    def __post_init__(self):
        if self.num_steps < 1:
            raise UserError(f"inference.num_steps={self.num_steps}: must be at least 1")
        if not self.step_size > 0:
            raise UserError(f"inference.step_size={self.step_size}: must be positive")

    def init(self, key: jax.Array) -> dict:
        """No parameters: the chain is driven by the prior and the generator alone."""
        del key
        return {}

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Any,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain.

        Args:
            phi: no parameters.
            key: the example's own key; it decides the start and the noise.
            example: unused here, log_joint knows the image.
            log_joint: z [d] -> (log p(z), log p(x|z)), in nats.
            start: where the chain starts, [d]; None draws it from N(0, I).

        Returns:
            The last z, from which no gradient flows back, log_q = 0, and diagnostics: ‖z‖ and the
            norms of the gradients of the two terms at the last step.
        """
        del phi, example
        start_key, noise_key = jax.random.split(key)
        if start is None:
            start = jax.random.normal(start_key, (self.latent_dim,))

        def step(carry, step_index):
            z, _ = carry
            prior_gradient = jax.grad(lambda z: log_joint(z)[0])(z)
            likelihood_gradient = jax.grad(lambda z: log_joint(z)[1])(z)
            z = z + 0.5 * self.step_size**2 * (prior_gradient + likelihood_gradient)
            if self.noise:
                step_key = jax.random.fold_in(noise_key, step_index)
                z = z + self.step_size * jax.random.normal(step_key, z.shape, z.dtype)
            return (z, (prior_gradient, likelihood_gradient)), None

        zeros = jnp.zeros_like(start)
        (z, (prior_gradient, likelihood_gradient)), _ = jax.lax.scan(
            step, (start, (zeros, zeros)), jnp.arange(self.num_steps)
        )
        info = {
            "norm_z": jnp.linalg.norm(z),
            "grad_norm_log_prior": jnp.linalg.norm(prior_gradient),
            "grad_norm_log_likelihood": jnp.linalg.norm(likelihood_gradient),
        }
        return jax.lax.stop_gradient(Posterior(z, jnp.zeros((), z.dtype), info))
