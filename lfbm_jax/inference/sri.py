"""Short-run inference with an optimised step size (SRI): Nijkamp et al. (2020), "Learning
multi-layer latent variable model via variational optimization of short run MCMC".

z is inferred by K steps of gradient ascent on log p(x, z) from z0 ~ N(0, I), without noise. If the
steps are small, this is an invertible map of z0, so q_s(z|x) has the density

    log q_s(z_K|x) = log N(z0; 0, I) - sum_k log |det(I + s^2/2 H(z_k))|,    H the Hessian in z,

and the step size s is the one that maximises the variational bound E[log p(x, z_K) - log q_s].

The determinants cost d Hessian-vector products per step, while the chain costs only one gradient:
with five layers of 100, the bound of one image costs as much as the chains of over a thousand
images. So s is not learned by gradients but by a local search on a few images every `tune_every`
steps. Chains that overshoot spoil training, so one search may shrink s as far as the bound
requires, but may increase it by a single factor only. Evaluation always uses the learned s, and
ignores its own setting.

The paper's latent vectors have several layers, which the prior `layered` provides.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.images.pixels import occlude, to_unit_range
from lfbm_jax.inference import langevin
from lfbm_jax.inference.base import LogJoint, Posterior, Tune
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers import langevin_step
from lfbm_jax.model import Example, Model, Parameters

FACTORS = (0.8, 1.0, 1.25)  # Factors of the step size that are tried; the best is kept.
MAX_ROUNDS = 20  # Rounds per search, which can divide the step size by 87.


@dataclasses.dataclass(frozen=True)
class Inference(langevin.Inference):
    """Noise-free short-run chains whose step size is a parameter, phi = {"log_step_size": []}.

    The settings of the search are ours.

    Attributes:
        num_steps: K.
        step_size: the initial s.
        noise: must be False.
        tune_every: the number of training steps from one search to the next.
        tune_images: the number of training images per search.
    """

    noise: bool = False
    tune_every: int = 20
    tune_images: int = 8

    needs_potential = True  # for the Hessians of the bound

    def __post_init__(self):
        super().__post_init__()
        check_at_least_one(
            "inference", tune_every=self.tune_every, tune_images=self.tune_images
        )
        if self.noise:
            raise UserError("inference.noise=True: the chains of sri have none; set it to False")

    def init(self, key: jax.Array) -> dict:
        """Returns the logarithm of the initial step size."""
        del key
        return {"log_step_size": jnp.log(jnp.asarray(self.step_size, float))}

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain; see the base class.

        No gradient flows back and log_q is 0, because phi is not learned by gradients.
        """
        del example
        z0 = self._start(key) if start is None else start
        step_size = jnp.exp(phi["log_step_size"])

        def step(z, _):
            return _ascend(log_joint, step_size, z), None

        z, _ = jax.lax.scan(step, z0, None, length=self.num_steps)
        info = {"norm_z": jnp.linalg.norm(z), "step_size": step_size}
        return jax.lax.stop_gradient(Posterior(z, jnp.zeros((), z.dtype), info, z0))

    def bound(self, step_size: jax.Array, key: jax.Array, log_joint: LogJoint) -> jax.Array:
        """log p(x, z_K) - log q_s(z_K|x) of one chain, in nats, []."""
        z0 = self._start(key)

        def step(carry, _):
            z, log_det = carry
            # Reverse over reverse: the generator's convolutions have no forward derivative.
            hessian = jax.jacrev(jax.grad(lambda z: sum(log_joint(z))))(z)
            jacobian = jnp.eye(len(z), dtype=z.dtype) + 0.5 * step_size**2 * hessian
            log_det = log_det + jnp.linalg.slogdet(jacobian)[1]
            return (_ascend(log_joint, step_size, z), log_det), None

        first = (z0, jnp.zeros((), z0.dtype))
        (z, log_det), _ = jax.lax.scan(step, first, None, length=self.num_steps)
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(z0)) - log_det
        return sum(log_joint(z)) - log_q

    def tuner(self, model: Model) -> Tune:
        """Returns a search: (parameters, a few training examples) -> phi with a better step size.

        Each round averages the bounds over the examples, for the current step size times each of
        FACTORS. All chains of an example have the same start. The search ends once the smallest of
        the three step sizes is not the best.

        Raises (when the search is called):
            FloatingPointError: no bound was finite, even at the smallest step size.
        """

        @jax.jit
        def mean_bounds(parameters: Parameters, examples: Example) -> jax.Array:
            prepared = model.prepare(parameters)

            def one_example(example):
                x = occlude(to_unit_range(example.image), example.mask)
                log_joint = model.log_joint(prepared, x, example.mask)
                key = key_for(0, Purpose.EVALUATION, example.index)
                step_sizes = jnp.exp(parameters.phi["log_step_size"]) * jnp.array(FACTORS)
                return jax.lax.map(lambda step: self.bound(step, key, log_joint), step_sizes)

            # One by one, because a single Hessian is as much work as a batch of d images.
            return jnp.mean(jax.lax.map(one_example, examples), axis=0)

        def tune(parameters: Parameters, examples: Example) -> dict:
            for _ in range(MAX_ROUNDS):
                bounds = np.asarray(mean_bounds(parameters, examples))
                # If the chains diverge at a step size, it has no bound and cannot be the best.
                best = np.argmax(np.where(np.isfinite(bounds), bounds, -np.inf))
                log_step_size = parameters.phi["log_step_size"] + math.log(FACTORS[best])
                parameters = parameters._replace(phi={"log_step_size": log_step_size})
                if best:
                    return parameters.phi
            if not np.isfinite(bounds).any():
                raise FloatingPointError(f"the bounds of all step sizes tried are {bounds}")
            return parameters.phi

        return tune

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Takes few steps, and searches with one image at every training step."""
        return super().smoke_settings(settings) | {"tune_every": 1, "tune_images": 1}

    def _start(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (self.latent_dim,))


def _ascend(log_joint: LogJoint, step_size: jax.Array, z: jax.Array) -> jax.Array:
    return langevin_step.drift(z, jax.grad(lambda z: sum(log_joint(z)))(z), step_size)
