"""Amortised inference by a network that maps the image to a Gaussian over z, Eq. 22.

With a Gaussian prior this is the VAE of Kingma and Welling (2014).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.inference import base
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.layers import convolutions
from lfbm_jax.model import Array, Example

# The least h: where e^h leaves the range of float32, log sigma would not be finite.
LEAST_RAW_DEVIATION = -30.0


@dataclasses.dataclass(frozen=True)
class Inference(base.Inference):
    """Draws z from q_phi(z|x) = N(mu_phi(x), diag(sigma_phi(x)^2)) by reparameterisation.

    The last layer of Table 8 has d channels, too few for both a mean and a deviation. Here two such
    layers, of d channels each, compute mu and h, and sigma is softplus(h) = log(1 + e^h). It grows
    like h and not like e^h: with sigma = e^h, one image of an early step can have a deviation of
    1e8, from which training does not recover.

    Attributes:
        image_shape: (height, width, channels).
        dtype: the type in which the convolutions compute; None for the type of x and phi.
        layers: (features, kernel size, stride, padding) of each convolution but the last.
        noise: whether z is drawn. If not, z is mu_phi(x), as in evaluation.
    """

    image_shape: tuple[int, int, int]
    dtype: jnp.dtype | None
    layers: tuple[tuple[int, int, int, int], ...] = ()
    noise: bool = True

    has_density = True

    def __post_init__(self):
        convolutions.check(self.layers, self.image_shape, "inference.layers")

    def init(self, key: jax.Array) -> dict:
        """Draws random parameters phi."""
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
        mean, deviation = self.moments(phi, example.image)
        return self._draw(key, mean, deviation)

    def moments(self, phi: dict, image: Array) -> tuple[jax.Array, jax.Array]:
        """Returns mu_phi(x) and sigma_phi(x), [d] each, of an image x in [-1, 1], [H, W, C]."""
        moments: Any = self._network().apply({"params": phi["encoder"]}, image)
        mean, raw_deviation = jnp.split(moments, 2)
        return mean, jax.nn.softplus(jnp.maximum(raw_deviation, LEAST_RAW_DEVIATION))

    @property
    def is_deterministic_network(self) -> bool:
        """Whether z is the mean mu_phi(x), without noise."""
        return not self.noise

    def flops(self) -> int:
        """Floating-point operations of a forward pass per image, 2 per multiply-add."""
        return convolutions.flops(self.layers, self.image_shape, 2 * self.latent_dim)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the layers."""
        return settings | {"layers": convolutions.narrowed(settings["layers"])}

    def _draw(self, key: jax.Array, mean: jax.Array, deviation: jax.Array) -> Posterior:
        """Draws from the Gaussian; returns z with its log-density and the scalars to log."""
        noise = jnp.zeros_like(mean)
        if self.noise:
            noise = jax.random.normal(key, mean.shape, mean.dtype)
        z = mean + deviation * noise
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(noise) - jnp.log(deviation))
        info = {
            "norm_z": jnp.linalg.norm(z),
            "log_q": log_q,
            "deviation": jnp.mean(deviation),
        }
        return Posterior(z, log_q, jax.lax.stop_gradient(info))

    def _network(self) -> convolutions.Convolutions:
        return convolutions.Convolutions(
            tuple((*layer,) for layer in self.layers), 2 * self.latent_dim, self.dtype
        )
