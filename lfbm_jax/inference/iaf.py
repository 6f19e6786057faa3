"""A Gaussian encoder and inverse autoregressive flow (Kingma et al., 2016), Eq. 22 to 24."""

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

# Added to the raw gate, so that steps begin close to the identity.
GATE_OFFSET = 2.0


@dataclasses.dataclass(frozen=True)
class Inference(encoder.Inference):
    """z0 of the encoder's Gaussian, then z = f_phi1(z0), Eq. 23, L' steps of

        z_l = s * r(z_{l-1}) + (1 - s) * m,   s = sigmoid(raw + 2),

    where r reverses the order of the vector and a masked network (MADE, Germain et al., 2015) with
    one hidden layer gives m_i and raw_i from the entries of r(z) before the i-th. The Jacobian is
    triangular, so that log q(z|x) = log q0(z0|x) - sum over steps of log s, exactly. As in Eq. 23
    the steps do not look at the image; in Kingma et al. they may.

    Attributes:
        latent_dim, image_shape, dtype, layers: as of the encoder.
        noise: whether z0 is drawn; else it is mu_phi0(x), and z its image under the flow.
        flow_steps: L', at least 1.
        hidden_width: width of the masked networks.
    """

    flow_steps: int = 5
    hidden_width: int = 200

    def __post_init__(self):
        super().__post_init__()
        check_at_least_one(
            "inference", flow_steps=self.flow_steps, hidden_width=self.hidden_width
        )

    def init(self, key: jax.Array) -> dict:
        """Parameters phi; those of the flow have a leading axis of steps."""
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
        """Draws z for one example: see the encoder; log_q is the flow's."""
        base = super().infer(phi, key, example, log_joint, start)

        def step(z, phi_step):
            return self.step(phi_step, z)

        z, log_scales = jax.lax.scan(step, base.z, phi["flow"])
        log_q = base.log_q - jnp.sum(log_scales)
        info = base.info | {"norm_z": jnp.linalg.norm(z), "log_q": log_q}
        return Posterior(z, log_q, jax.lax.stop_gradient(info))

    def step(self, phi_step: dict, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step of the flow: the next z and the log of its scales, [d] each."""
        z = z[::-1]
        shift, raw = self.autoregressive(phi_step, z)
        log_scale = nn.log_sigmoid(raw + GATE_OFFSET)
        scale = jnp.exp(log_scale)
        return scale * z + (1 - scale) * shift, log_scale

    def autoregressive(self, phi_step: dict, z: jax.Array) -> jax.Array:
        """m and the raw gate, [2, d]: entry i depends on the entries of z before it alone."""
        from_input, to_output = (jnp.asarray(mask, z.dtype) for mask in self._masks())
        hidden = z @ (phi_step["hidden"]["kernel"] * from_input) + phi_step["hidden"]["bias"]
        kernel = phi_step["output"]["kernel"] * to_output[:, None, :]
        output = jnp.tensordot(nn.relu(hidden), kernel, 1)
        return output + phi_step["output"]["bias"]

    def flops(self) -> int:
        """Floating-point operations of one image's forward pass; masked products count too."""
        return super().flops() + self.flow_steps * 2 * 3 * self.latent_dim * self.hidden_width

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrow layers and two narrow steps."""
        return super().smoke_settings(settings) | {"flow_steps": 2, "hidden_width": 8}

    def _masks(self) -> tuple[np.ndarray, np.ndarray]:
        """[d, width] and [width, d], 1 where a connection may be.

        The inputs' degrees are 1 to d and the hidden units' go round from 1 to d - 1. A hidden unit
        sees inputs up to its degree, an output hidden units below its own.
        """
        degrees = 1 + np.arange(self.latent_dim)
        hidden = 1 + np.arange(self.hidden_width) % max(1, self.latent_dim - 1)
        return hidden >= degrees[:, None], degrees > hidden[:, None]

    def _init_step(self, key: jax.Array) -> dict:
        """Xavier-normal from the input; zero to the output: z_l = sigmoid(2) r(z) at first."""
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
