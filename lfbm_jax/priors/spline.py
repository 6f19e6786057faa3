"""A neural spline flow on the latent vector (Durkan, Bekasov, Murray and Papamakarios, 2019).

In the direction z -> z0, a step is an affine map of the whole vector and a coupling, which keeps
the first half y1 and sends every entry y of the second half through a monotonic spline:

    [y1 | y2] = (z + b) W,        z' = [y1 | spline(y2; network(y1))].

The spline of an entry has K bins on [-B, B]. In a bin from (y_k, v_k) to (y_k+1, v_k+1) with slopes
d_k and d_k+1 at its ends, mean slope m = (v_k+1 - v_k) / (y_k+1 - y_k), and position
t = (y - y_k) / (y_k+1 - y_k), it is the ratio of two quadratics (Eq. 4 there)

    v = v_k + (v_k+1 - v_k) (m t^2 + d_k t (1 - t)) / (m + (d_k+1 + d_k - 2 m) t (1 - t)).

The network's outputs, divided by the square root of its width, are K widths and K heights, which a
softmax makes positive and sum to 2 B, and the K - 1 inner slopes, made positive by a softplus. The
two outer slopes are 1, and outside [-B, B] the spline is the identity. (The authors' code divides
widths and heights; slopes are divided here too, which keeps the inverse accurate.) The bins, the
derivative and the inverse are distrax's.
"""

import dataclasses
import math
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_positive
from lfbm_jax.layers import bijectors
from lfbm_jax.layers.flows import Flow
from lfbm_jax.priors import base

# The least width and height of a bin, in units of z, and the least slope at a knot.
MINIMUM = 1e-3


@dataclasses.dataclass(frozen=True)
class Prior(Flow, base.Prior):
    """A flow whose steps, from z to z0, are an affine map and a coupling by splines.

    It starts as N(0, I): couplings as the identity, because their networks return zeros, and affine
    maps as a reversal of the vector, so that each coupling transforms the half that the previous
    one left unchanged. Networks are those of the other flows.

    Attributes:
        num_steps, hidden_width: see `Flow`.
        num_bins: K, at least 2; 8 in its authors' experiments.
        bound: B, in units of z; 3 in its authors' experiments.
    """

    num_bins: int = 8
    bound: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        check_positive("prior", bound=self.bound)
        if not 2 <= self.num_bins <= self.bound / MINIMUM:
            most = int(self.bound / MINIMUM)
            raise UserError(f"prior.num_bins={self.num_bins}: must be from 2 to {most}")

    def prepare(self, alpha: dict) -> dict:
        """Alpha and the log-determinants of the matrices W, as the arguments of `_step`."""
        log_abs_det = jnp.linalg.slogdet(alpha["linear"])[1]
        return {"steps": {**alpha, "log_abs_det": log_abs_det}}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, Eq. 5; z [d]."""
        z0, log_det = self._inverse_and_log_det(prepared, z)
        return jnp.sum(jax.scipy.stats.norm.logpdf(z0)) + log_det

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Reduces the splines to two bins."""
        return settings | {"num_bins": 2}

    def _step(self, prepared_step: dict) -> distrax.Bijector:
        """One step. Its inverse, z -> z0, applies this list from first to last."""
        return distrax.Chain(
            [
                distrax.Block(distrax.ScalarAffine(-prepared_step["bias"]), 1),
                bijectors.InvertibleLinear(prepared_step["linear"], prepared_step["log_abs_det"]),
                self._spline_coupling(prepared_step["coupling"]),
            ]
        )

    def _spline_coupling(self, network: dict) -> distrax.Bijector:
        """The coupling of a step, whose inverse evaluates splines; sampling inverts them."""

        def parameters(first):
            """Of distrax's splines, [d - d // 2, 3 K + 1]; it ignores the two outer slopes."""
            raw = self._conditioner().apply({"params": network}, first)
            raw = raw.reshape(-1, self._num_outputs) / math.sqrt(self.hidden_width)
            sizes, slopes = jnp.split(raw, [2 * self.num_bins], axis=1)
            return jnp.concatenate([sizes, jnp.pad(slopes, ((0, 0), (1, 1)))], axis=1)

        def spline(parameters):
            return distrax.RationalQuadraticSpline(
                parameters, -self.bound, self.bound, "identity", MINIMUM, MINIMUM
            )

        half = self.latent_dim // 2
        return distrax.Inverse(distrax.SplitCoupling(half, 1, parameters, spline))

    @property
    def _num_outputs(self) -> int:
        """How many vectors a coupling's network returns."""
        return 3 * self.num_bins - 1

    def _init_step(self, key: jax.Array) -> dict:
        return {
            "bias": jnp.zeros(self.latent_dim),
            "linear": jnp.eye(self.latent_dim)[::-1],
            "coupling": self._init_coupling(key),
        }
