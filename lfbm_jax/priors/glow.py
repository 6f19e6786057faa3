"""The flow prior of the paper: a fully connected Glow on the latent vector (section 3.1)."""

import dataclasses
import math

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors, folded_flow
from lfbm_jax.layers.flows import Flow, init_actnorm
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow whose steps, from z to z0, are actnorm, an invertible matrix and an affine coupling.

    Attributes: see `Flow`.
    """

    def prepare(self, alpha: dict) -> dict:
        """See `Flow`. For actnorm's scale e and A = diag(e) W, ((z + b) e) W = z A + b A."""
        actnorm = alpha["actnorm"]
        log_scale = bijectors.LOG_SCALE_FACTOR * actnorm["log_scale"]
        log_abs_det = jnp.linalg.slogdet(alpha["linear"])[1]
        matrices = jnp.exp(log_scale)[..., None] * alpha["linear"]
        offsets = jnp.einsum("li,lij->lj", actnorm["bias"], matrices)
        return {
            "steps": {**alpha, "log_abs_det": log_abs_det},
            "folded": folded_flow.fold(matrices, offsets, alpha["coupling"]),
            "log_det": jnp.sum(log_scale) + jnp.sum(log_abs_det),
        }

    def reference_counts(self) -> dict[str, int]:
        """The paper's parameter count, for `describe`.

        It includes a bias in both hidden layers of every coupling. We omit these biases because
        the actnorm after them makes them redundant.
        """
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        own = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
        unused = self.num_steps * 2 * self.hidden_width
        return {"parameters_with_unused_biases": own + unused}

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One Glow step. Its inverse, z -> z0, applies this list from first to last."""
        return distrax.Chain(
            [
                bijectors.ActNorm(**prepared_step["actnorm"]),
                bijectors.InvertibleLinear(prepared_step["linear"], prepared_step["log_abs_det"]),
                self._coupling(prepared_step["coupling"], prepared_step),
            ]
        )

    def _log_scale(self, step: dict, *raw: jax.Array) -> jax.Array:
        del step
        return jax.nn.log_sigmoid(raw[0] + 2.0)

    def _init_step(self, key: jax.Array) -> dict:
        actnorm_key, linear_key, coupling_key = jax.random.split(key, 3)
        return {
            "actnorm": init_actnorm(actnorm_key, self.latent_dim),
            "linear": jax.random.orthogonal(linear_key, self.latent_dim),
            "coupling": self._init_coupling(coupling_key),
        }
