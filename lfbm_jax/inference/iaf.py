"""Amortised inference by a Gaussian encoder and an inverse autoregressive flow, Eq. 22 to 24.

The flow is that of Kingma et al. (2016).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import check_at_least_one
from lfbm_jax.inference import encoder
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.model import Example

# Added to the raw gate, so that the steps are close to the identity at first.
GATE_OFFSET = 2.0


@dataclasses.dataclass(frozen=True)
class Inference(encoder.Inference):
    """Draws z0 from the encoder's Gaussian and maps it to z = f_phi1(z0), Eq. 23.

    The flow f has L' steps

        z_l = s * r(z_{l-1}) + (1 - s) * m,   s = sigmoid(raw + 2),

    where r reverses the order of the vector. A masked network with one hidden layer (MADE, Germain
    et al., 2015) computes m_i and raw_i from the entries of r(z) before the i-th. Up to the
    reversal, the Jacobian is triangular, so log q(z|x) is exactly log q0(z0|x) minus the sum of
    log s over all steps and entries. As in Eq. 23, the steps do not depend on the image; in Kingma
    et al. they may.

    Attributes:
        latent_dim, image_shape, dtype, layers: as for the encoder.
        noise: whether z0 is drawn. If not, z0 is mu_phi0(x), which the flow then maps to z.
        flow_steps: L', at least 1.
        hidden_width: the width of the masked networks.
    """

    flow_steps: int = 5
    hidden_width: int = 200

    def __post_init__(self):
        super().__post_init__()
        check_at_least_one(
            "inference", flow_steps=self.flow_steps, hidden_width=self.hidden_width
        )

    def init(self, key: jax.Array) -> dict:
        """Draws random parameters phi; those of the flow have a leading axis of steps."""
        encoder_key, flow_key = jax.random.split(key)
        steps = jax.vmap(self._init_step)(jax.random.split(flow_key, self.flow_steps))
        return super().init(encoder_key) | {"flow": steps}

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Draws z for one example; see the encoder. Here log_q includes the flow."""
        base = super().infer(phi, key, example, log_joint, start)

        def step(z, phi_step):
            return self.step(phi_step, z)

        z, log_scales = jax.lax.scan(step, base.z, phi["flow"])
        log_q = base.log_q - jnp.sum(log_scales)
        info = base.info | {"norm_z": jnp.linalg.norm(z), "log_q": log_q}
        return Posterior(z, log_q, jax.lax.stop_gradient(info))

    def step(self, phi_step: dict, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step of the flow; returns the next z and the log of the scales, [d] each."""
        z = z[::-1]
        shift, raw = self.autoregressive(phi_step, z)
        log_scale = nn.log_sigmoid(raw + GATE_OFFSET)
        scale = jnp.exp(log_scale)
        return scale * z + (1 - scale) * shift, log_scale

    def autoregressive(self, phi_step: dict, z: jax.Array) -> jax.Array:
        """m and the raw gate, [2, d], whose entries i depend only on the entries of z before i."""
        from_input, to_output = (jnp.asarray(mask, z.dtype) for mask in self._masks())
        hidden = z @ (phi_step["hidden"]["kernel"] * from_input) + phi_step["hidden"]["bias"]
        kernel = phi_step["output"]["kernel"] * to_output[:, None, :]
        output = jnp.tensordot(nn.relu(hidden), kernel, 1)
        return output + phi_step["output"]["bias"]

    def flops(self) -> int:
        """Floating-point operations of a forward pass per image, including masked products."""
        return super().flops() + self.flow_steps * 2 * 3 * self.latent_dim * self.hidden_width

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the layers and takes two narrow steps."""
        return super().smoke_settings(settings) | {"flow_steps": 2, "hidden_width": 8}

    def _masks(self) -> tuple[np.ndarray, np.ndarray]:
        """Masks [d, width] and [width, d] that are true where a connection is allowed.

        The degrees of the inputs are 1 to d, those of the hidden units cycle through 1 to d - 1. A
        hidden unit sees inputs up to its own degree; an output sees hidden units of lower degree.
        """
        degrees = 1 + np.arange(self.latent_dim)
        hidden = 1 + np.arange(self.hidden_width) % max(1, self.latent_dim - 1)
        return hidden >= degrees[:, None], degrees > hidden[:, None]

    def _init_step(self, key: jax.Array) -> dict:
        """Draws Xavier-normal input kernels; the rest is 0, so z_l = sigmoid(2) r(z) at first."""
        shape = (self.latent_dim, self.hidden_width)
        return {
            "hidden": {
                "kernel": nn.initializers.xavier_normal()(key, shape, float),
                "bias": jnp.zeros(self.hidden_width),
            },
            "output": {
                "kernel": jnp.zeros((self.hidden_width, 2, self.latent_dim)),
                "bias": jnp.zeros((2, self.latent_dim)),
            },
        }
