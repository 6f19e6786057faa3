"""Short-run chains that start from the draw of an encoder, which the chains' ends teach.

The inference of dual-MCMC teaching (Cui and Han, 2023, "Learning energy-based model via dual-MCMC
teaching"). For an image x, with phi the parameters of the encoder,

    z_0 ~ q_phi(z|x) = N(mu_phi(x), diag(sigma_phi(x)^2)),
    z_k = K steps of Eq. 8 on log p(x, z) from z_0,
    phi descends -log q_phi(z_K|x), with z_K constant,

while alpha and beta learn from z_K as in LFBM (Eq. 6 and 7). So phi minimises the divergence of
q_phi from the law of z_K, which K steps have brought closer to p(z|x): an encoder that is as good
as a chain of many times K steps, as far as a Gaussian can be.

The authors also teach phi by -0.1 log q_phi(z|x') for z from the prior and x' = g(z), and a second
energy, of images, teaches their generator. Neither is done here. The prior may be any; with the
flow and the energy in place of their N(0, I), the combination is new here.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.inference import encoder, langevin
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.layers import convolutions
from lfbm_jax.model import Example

# Added to sigma_phi(x)^2, as by the authors, so that chains without noise cannot make q_phi narrow
# without bound.
VARIANCE_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class Inference(langevin.Inference):
    """Langevin dynamics, Eq. 8, from z_0 ~ q_phi(z|x) instead of N(0, I).

    Attributes:
        image_shape: (height, width, channels).
        dtype: the type in which the convolutions compute; None for the type of x and phi.
        layers: (features, kernel size, stride, padding) of each convolution but the last, as for
            the encoder.
        num_steps, step_size: K and s, see `langevin.Inference`.
        noise: whether the chain is stochastic and z_0 is drawn. Without noise z_0 is mu_phi(x).
    """

    image_shape: tuple[int, int, int] = dataclasses.field(kw_only=True)
    dtype: jnp.dtype | None = dataclasses.field(kw_only=True)
    layers: tuple[tuple[int, int, int, int], ...] = ()
    num_steps: int = 10  # the authors'

    takes_masks = False  # The encoder needs whole images.

    def __post_init__(self):
        super().__post_init__()
        convolutions.check(self.layers, self.image_shape, "inference.layers")

    def init(self, key: jax.Array) -> dict:
        """Draws random parameters phi, those of `encoder.Inference`."""
        return self._encoder().init(key)

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain; see the base class.

        `loss` is -log q_phi(z_K|x) in nats. Diagnostics: those of Langevin dynamics, the loss, the
        mean of sigma_phi(x), and the distance from z_0 to z_K.
        """
        start_key, chain_key = jax.random.split(key)
        mean, deviation = self._encoder().moments(phi, example.image)
        deviation = jnp.sqrt(jnp.square(deviation) + VARIANCE_FLOOR)
        if start is None:
            noise = jax.random.normal(start_key, mean.shape, mean.dtype) if self.noise else 0.0
            start = jax.lax.stop_gradient(mean + deviation * noise)
        found = super().infer(phi, chain_key, example, log_joint, start)
        loss = -jnp.sum(jax.scipy.stats.norm.logpdf(found.z, mean, deviation))
        info = {
            **found.info,
            "loss_inference": loss,
            "deviation": jnp.mean(deviation),
            "chain_distance": jnp.linalg.norm(found.z - start),
        }
        return found._replace(loss=loss, info=jax.lax.stop_gradient(info))

    def flops(self) -> int:
        """Floating-point operations of the encoder's forward pass per image."""
        return self._encoder().flops()

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the layers and takes few steps."""
        layers = convolutions.narrowed(settings["layers"])
        return super().smoke_settings(settings) | {"layers": layers}

    def _encoder(self) -> encoder.Inference:
        return encoder.Inference(self.latent_dim, self.image_shape, self.dtype, self.layers)
