"""Amortised inference: a Gaussian whose mean and deviation a network reads off the image, Eq. 22.

With a Gaussian prior this is the VAE of Kingma and Welling (2014).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.inference import base
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.layers import convolutions
from lfbm_jax.model import Example


@dataclasses.dataclass(frozen=True)
class Inference(base.Inference):
    """q_phi(z|x) = N(mu_phi(x), diag(sigma_phi(x)^2)), drawn from by reparameterisation.

    The last layer of Table 8 has d channels, which cannot give both a mean and a deviation: here
    two such layers, of d channels each, give mu and log sigma.

    Attributes:
        image_shape: (height, width, channels).
        dtype: what the convolutions compute in; None: the type of x and phi.
        layers: one (features, kernel size, stride, padding) for every convolution before the heads.
        noise: whether z is drawn; else it is mu_phi(x), as in evaluation.
    """

    image_shape: tuple[int, int, int]
    dtype: jnp.dtype | None
    layers: tuple[tuple[int, int, int, int], ...] = ()
    noise: bool = True

    has_density = True

    def __post_init__(self):
        convolutions.check(self.layers, self.image_shape, "inference.layers")

    def init(self, key: jax.Array) -> dict:
        """Parameters phi."""
        return {"encoder": self._network().init(key, jnp.zeros(self.image_shape))["params"]}

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Draws z for one example; see the base class.

        Diagnostics: ‖z‖, log q(z|x) (Eq. 24) and the mean of sigma.
        """
        del log_joint, start
        mean, log_deviation = self.moments(phi, example.image)
        return self._draw(key, mean, log_deviation)

    def moments(self, phi: dict, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """mu_phi(x) and log sigma_phi(x), [d] each, of x in [-1, 1]."""
        return jnp.split(self._network().apply({"params": phi["encoder"]}, image), 2)

    @property
    def is_deterministic_network(self) -> bool:
        """Where z is the mean."""
        return not self.noise

    def flops(self) -> int:
        """Floating-point operations of one image's forward pass: 2 per multiply-add."""
        return convolutions.flops(self.layers, self.image_shape, 2 * self.latent_dim)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrow layers."""
        return settings | {"layers": convolutions.narrowed(settings["layers"])}

    def _draw(self, key: jax.Array, mean: jax.Array, log_deviation: jax.Array) -> Posterior:
        """A draw of the Gaussian with its log-density, and what to log."""
        deviation = jnp.exp(log_deviation)
        noise = jnp.zeros_like(mean)
        if self.noise:
            noise = jax.random.normal(key, mean.shape, mean.dtype)
        z = mean + deviation * noise
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(noise) - log_deviation)
        info = {
            "norm_z": jnp.linalg.norm(z),
            "log_q": log_q,
            "deviation": jnp.mean(deviation),
        }
        return Posterior(z, log_q, jax.lax.stop_gradient(info))

    def _network(self) -> convolutions.Convolutions:
        return convolutions.Convolutions(
            tuple(map(tuple, self.layers)), 2 * self.latent_dim, self.dtype
        )
