"""The objective of BiGAN-sigma: generator and encoder against a discriminator of pairs (x, z).

Zenati et al. (2018), "Efficient GAN-based anomaly detection", a row of Table 4.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.images.pixels import occlude
from lfbm_jax.layers import convolutions
from lfbm_jax.layers.image_and_vector import ImageAndVector
from lfbm_jax.model import Array, Example, Model, Parameters, Tree
from lfbm_jax.objectives import base
from lfbm_jax.objectives.base import Keys, Loss, Update


@dataclasses.dataclass(frozen=True)
class Objective(base.Objective):
    """D tells pairs (x, mu(x)) from pairs (g(z), z), and generator and encoder confuse it.

    With logits D, the discriminator minimises softplus(-D(x, mu(x))) + softplus(D(g(z), z)) and
    the other two minimise softplus(D(x, mu(x))) + softplus(-D(g(z), z)); z is from the prior.

    The image is anomalous if its reconstruction is far and the discriminator sees no true pair:

        A(x) = (1 - weight) |x - g(mu(x))|_1 + weight softplus(-D(x, mu(x))).

    This is the score "sigma" as the paper has it. Its published code gives the discriminator the
    reconstruction in place of x. The convolutions are the authors'. Unlike theirs, z joins the
    features of the image without a layer of its own, whose width the features' last layer has,
    LeakyReLU has the slope 0.2 instead of 0.1, both updates of an iteration see the same images,
    and normalisation over the batch and dropout are left out, since the loss is that of one
    example.

    Attributes:
        layers: (features, kernel size, stride, padding) of the discriminator's convolutions.
        width, hidden_width: of the discriminator, see `ImageAndVector`.
        score_weight: the weight of the discriminator in the score, in [0, 1].
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: jnp.dtype | None
    layers: tuple[tuple[int, int, int, int], ...] = ((64, 4, 2, 1), (64, 4, 2, 1))
    width: int = 512
    hidden_width: int = 1024
    score_weight: float = 0.1

    score_name = "-A(x): the L1 reconstruction error and the discriminator's cross-entropy"

    def __post_init__(self):
        convolutions.check(self.layers, self.image_shape, "objective.layers")
        check_at_least_one("objective", width=self.width, hidden_width=self.hidden_width)
        if not 0 <= self.score_weight <= 1:
            raise UserError(f"objective.score_weight={self.score_weight}: must be in [0, 1]")

    def check(self, model: Model) -> None:
        """Raises a UserError unless inference is an encoder without noise."""
        if not model.inference.is_deterministic_network:
            raise UserError(
                "objective.name='bigan': needs inference=encoder with inference.noise=False;"
                " use the variant :bigan"
            )

    def init(self, key: jax.Array) -> dict[str, Tree]:
        """Draws the parameters of the discriminator."""
        image, z = jnp.zeros(self.image_shape), jnp.zeros(self.latent_dim)
        return {"discriminator": self._network().init(key, image, z)}

    @property
    def updates(self) -> tuple[Update, ...]:
        """A step of the discriminator, then one of generator and encoder."""
        return (
            Update(self._discriminator_loss, ("discriminator",)),
            Update(self.loss, ("prior", "generator", "inference")),
        )

    def _discriminator_loss(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> Loss:
        """softplus(-D(x, mu(x))) + softplus(D(g(z), z))."""
        of_image, of_sample, _ = self._logits(model, prepared, keys, example)
        value = jax.nn.softplus(-of_image) + jax.nn.softplus(of_sample)
        return Loss(value, {"loss_discriminator": value})

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """softplus(D(x, mu(x))) + softplus(-D(g(z), z)), and the reconstruction error to log."""
        of_image, of_sample, z = self._logits(model, prepared, keys, example)
        value = jax.nn.softplus(of_image) + jax.nn.softplus(-of_sample)
        image = model.decode(jax.lax.stop_gradient(prepared), z)
        return Loss(value, {"loss_generator": value, "mse": base.mse(example, image)}, z)

    def score(self, model: Model, prepared: Parameters, example: Example) -> jax.Array:
        """-A(x)."""
        x, z = example.image, _inferred(model, prepared, example)
        distance = jnp.sum(jnp.abs(x - model.decode(prepared, z)))
        cross_entropy = jax.nn.softplus(-self._logit(prepared.psi, x, z))
        return -(1 - self.score_weight) * distance - self.score_weight * cross_entropy

    def _logit(self, psi: dict[str, Tree], image: Array, z: jax.Array) -> Any:
        """D(x, z), [], of an image in [-1, 1], [H, W, C], and z [d]."""
        return self._network().apply(psi["discriminator"], image, z)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the discriminator."""
        narrow = {"width": 8, "hidden_width": 8}
        return settings | narrow | {"layers": convolutions.narrowed(settings["layers"])}

    def _logits(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """D(x, mu(x)), D(g(z), z) and mu(x)."""
        inferred = _inferred(model, prepared, example)
        z, sample = model.sample(prepared, keys.loss)
        of_image = self._logit(prepared.psi, example.image, inferred)
        of_sample = self._logit(prepared.psi, occlude(sample, example.mask), z)
        return of_image, of_sample, inferred

    def _network(self) -> ImageAndVector:
        return ImageAndVector(self.layers, self.width, self.hidden_width, self.dtype)


def _inferred(model: Model, prepared: Parameters, example: Example) -> jax.Array:
    """mu(x), [d]: the encoder draws nothing, so its key does not matter."""
    return base.infer(model, prepared, jax.random.key(0), example).z
