"""Short-run Langevin dynamics on the posterior of the latent vector, Eq. 8."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import check_at_least_one, check_positive
from lfbm_jax.inference import base
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.layers import langevin_step
from lfbm_jax.model import Example, Tree

# The default in evaluation: 400 steps of gradient ascent, as in the authors' code.
EVALUATION = {"num_steps": 400, "noise": False}


@dataclasses.dataclass(frozen=True)
class Inference(base.Inference):
    """Takes K steps of z <- z + (s^2 / 2) grad_z log p(x, z) + s * noise, from z ~ N(0, I).

    `step_size` is s. The xi of the paper's Eq. 8 is s^2 / 2, so the drift is xi times the gradient
    and the noise is sqrt(2 xi) times a standard normal.

    Attributes:
        num_steps: K, at least 1.
        step_size: s, positive, in units of z.
        noise: whether the chain is stochastic. Without noise it is gradient ascent on log p(x, z),
            as in the authors' evaluation.
    """

    num_steps: int = 20
    step_size: float = 0.1
    noise: bool = True

    takes_masks = True  # log_joint may depend on only some of the image's pixels

    def __post_init__(self):
        check_at_least_one("inference", num_steps=self.num_steps)
        check_positive("inference", step_size=self.step_size)

    def infer(
        self,
        phi: Tree,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain; see the base class.

        Diagnostics: ‖z‖, and the norms of the gradients of both terms at the last step.
        """
        del phi, example
        start_key, noise_key = jax.random.split(key)
        if start is None:
            start = jax.random.normal(start_key, (self.latent_dim,))

        def step(carry, step_index):
            z, _ = carry
            prior_gradient = jax.grad(lambda z: log_joint(z)[0])(z)
            likelihood_gradient = jax.grad(lambda z: log_joint(z)[1])(z)
            gradient = prior_gradient + likelihood_gradient
            if self.noise:
                step_key = jax.random.fold_in(noise_key, step_index)
                noise = jax.random.normal(step_key, z.shape, z.dtype)
                z = langevin_step.step(z, gradient, self.step_size, noise)
            else:
                z = langevin_step.drift(z, gradient, self.step_size)
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
        return jax.lax.stop_gradient(Posterior(z, jnp.zeros((), z.dtype), info, start))

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Takes two steps, or three without noise, as in evaluation."""
        return settings | {"num_steps": 2 if settings["noise"] else 3}
