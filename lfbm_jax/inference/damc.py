"""Short-run chains that start from the draw of a small diffusion model, taught by the chains' ends.

Diffusion-amortised MCMC (Yu et al., 2023, "Learning energy-based prior model with diffusion-
amortized MCMC"), of which this is the posterior's half. For an image x,

    z_0 ~ Q_phi(z|x), the reverse diffusion of `layers/diffusion.py`, given features of x,
    z_k = K steps of Eq. 8 on log p(x, z) from z_0,
    phi descends E|e - e_phi(z_lambda, lambda, x)|^2 / 2, with z_lambda made of a constant z_K,

while alpha and beta learn from z_K as in LFBM (Eq. 6 and 7). Unlike the encoder of `learned_start`,
Q_phi may have any shape.

Everything is scaled down from the authors' to what two processors can do: 10 predictions per draw
by a solver of order two instead of 100 ancestral ones, 10 steps of Langevin dynamics instead of 30,
a network of four layers of 128, and one step of Adam on six draws of noise, at six times the rate,
instead of six steps. The authors' model of z without an image, which they use for samples, is a
prior here (`priors/diffusion`); their chains on the energy prior start from z_0, ours from N(0, I).

The start comes from phi itself, not from its moving average, which would take thousands of
iterations to follow. A young network draws z_0 too far away, learns from chains that end there, and
draws still farther, until the generator is flat and no chain comes back. So a z_0 outside a ball is
drawn back to its surface, which is ours.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import check_at_least_one
from lfbm_jax.inference import langevin
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.layers import convolutions, denoiser, diffusion
from lfbm_jax.model import Array, Example

RADIUS = 5.0  # of the ball, in units of sqrt(d), about the length of a vector from N(0, I)


@dataclasses.dataclass(frozen=True)
class Inference(langevin.Inference):
    """Langevin dynamics, Eq. 8, from z_0 ~ Q_phi(z|x) instead of N(0, I).

    Attributes:
        image_shape: (height, width, channels).
        dtype: the type in which the convolutions compute; None for the type of x and phi.
        layers: (features, kernel size, stride, padding) of each convolution but the last, as for
            the encoder.
        num_steps, step_size, noise: of the chain, see `langevin.Inference`. z_0 is drawn in any
            case.
        diffusion_steps: evaluations of the network per draw of z_0, at least 2.
        num_draws: noise levels and noises per example that teach the network in an update.
        num_features: length of the vector that the convolutions make of x.
        hidden_width, num_layers: of the network, see `denoiser.Denoiser`.
    """

    image_shape: tuple[int, int, int] = dataclasses.field(kw_only=True)
    dtype: jnp.dtype | None = dataclasses.field(kw_only=True)
    layers: tuple[tuple[int, int, int, int], ...] = ()
    num_steps: int = 10
    diffusion_steps: int = 10
    num_draws: int = 6
    num_features: int = 128
    hidden_width: int = 128
    num_layers: int = 4

    takes_masks = False  # The convolutions need whole images.

    def __post_init__(self):
        super().__post_init__()
        convolutions.check(self.layers, self.image_shape, "inference.layers")
        check_at_least_one(
            "inference",
            num_draws=self.num_draws,
            num_features=self.num_features,
            hidden_width=self.hidden_width,
            num_layers=self.num_layers,
        )
        diffusion.check_num_steps(self.diffusion_steps, "inference.diffusion_steps")

    def init(self, key: jax.Array) -> dict:
        """Draws random parameters phi of the convolutions and of the denoising network."""
        features_key, denoiser_key = jax.random.split(key)
        given, z = jnp.zeros(self.num_features), jnp.zeros(self.latent_dim)
        image = jnp.zeros(self.image_shape)
        return {
            "features": self._features().init(features_key, image)["params"],
            "denoiser": self._denoiser().init(denoiser_key, z, jnp.zeros(()), given)["params"],
        }

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain; see the base class.

        `loss` is the mean squared error of the predicted noise, halved and summed over entries.
        Diagnostics: those of Langevin dynamics, the loss, and the distance from z_0 to z_K.
        """
        start_key, chain_key, loss_key = jax.random.split(key, 3)
        if start is None:
            predict = self._given(jax.lax.stop_gradient(phi), example.image)
            start = diffusion.sample(predict, start_key, self.latent_dim, self.diffusion_steps)
            start = _within_ball(start, RADIUS * self.latent_dim**0.5)
        found = super().infer(phi, chain_key, example, log_joint, start)
        predict = self._given(phi, example.image)
        keys = jax.random.split(loss_key, self.num_draws)
        loss = jnp.mean(jax.vmap(lambda key: diffusion.loss(predict, key, found.z))(keys))
        info = {
            **found.info,
            "loss_inference": loss,
            "chain_distance": jnp.linalg.norm(found.z - start),
        }
        return found._replace(loss=loss, info=jax.lax.stop_gradient(info))

    def flops(self) -> int:
        """Floating-point operations per image: the convolutions, and one draw of z_0."""
        draw = denoiser.flops(self._denoiser(), self.latent_dim, self.num_features)
        features = convolutions.flops(self.layers, self.image_shape, self.num_features)
        return features + self.diffusion_steps * draw

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows all layers and takes few steps."""
        layers = convolutions.narrowed(settings["layers"])
        sizes = {"num_features": 8, "hidden_width": 8, "num_layers": 2}
        few = {"layers": layers, "diffusion_steps": 3, "num_draws": 2}
        return super().smoke_settings(settings) | sizes | few

    def _given(self, phi: dict, image: Array) -> diffusion.Predict:
        """The prediction of the noise in z_lambda given an image."""
        given = self._features().apply({"params": phi["features"]}, image)
        network = self._denoiser()

        def predict(z: jax.Array, level: jax.Array) -> Any:
            return network.apply({"params": phi["denoiser"]}, z, level, given)

        return predict

    def _features(self) -> convolutions.Convolutions:
        layers = tuple((*layer,) for layer in self.layers)
        return convolutions.Convolutions(layers, self.num_features, self.dtype)

    def _denoiser(self) -> denoiser.Denoiser:
        return denoiser.Denoiser(self.hidden_width, self.num_layers)


def _within_ball(z: jax.Array, radius: float) -> jax.Array:
    """z [d], drawn back to the surface of the ball if it lies outside."""
    size = jnp.maximum(1.0, jnp.max(jnp.abs(z)))  # Without it, the norm's squares overflow first.
    scaled = z / size
    norm = jnp.linalg.norm(scaled)
    return jnp.where(size * norm > radius, scaled * (radius / norm), z)
