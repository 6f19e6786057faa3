"""The flow prior of the paper: a fully connected Glow on the latent vector (section 3.1)."""

import dataclasses
import math

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.layers import bijectors
from lfbm_jax.layers.flows import Conditioner, Flow, init_actnorm
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow whose steps, z -> z0, are actnorm, invertible linear and affine coupling.

    Attributes: see `Flow`.
    """

    def prepare(self, alpha: dict) -> dict:
        """Adds log|det W| of every linear layer: O(d^3) work that does not depend on z."""
        return {**alpha, "log_abs_det": jnp.linalg.slogdet(alpha["linear"])[1]}

    def reference_counts(self) -> dict[str, int]:
        """The paper's count of parameters, for `describe`.

        It includes a bias in both hidden layers of every coupling, which their actnorm makes
        useless; ours has none.
        """
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        own = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
        unused = self.num_steps * 2 * self.hidden_width
        return {"parameters_with_unused_biases": own + unused}

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One Glow step. Its inverse, z -> z0, goes through this list from first to last."""
        coupling = {"params": prepared_step["coupling"]}

        def conditioner(first):
            shift, raw = jnp.split(self._conditioner().apply(coupling, first), 2)
            return shift, jax.nn.log_sigmoid(raw + 2.0)

        return distrax.Chain(
            [
                bijectors.ActNorm(**prepared_step["actnorm"]),
                bijectors.InvertibleLinear(prepared_step["linear"], prepared_step["log_abs_det"]),
                bijectors.AffineCoupling(conditioner),
            ]
        )

    def _conditioner(self) -> Conditioner:
        return Conditioner(self.hidden_width, 2 * (self.latent_dim - self.latent_dim // 2))

    def _init_step(self, key: jax.Array) -> dict:
        d = self.latent_dim
        actnorm_key, linear_key, coupling_key = jax.random.split(key, 3)
        return {
            "actnorm": init_actnorm(actnorm_key, d),
            "linear": jax.random.orthogonal(linear_key, d),
            "coupling": self._conditioner().init(coupling_key, jnp.zeros(d // 2))["params"],
        }
