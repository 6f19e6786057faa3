"""The objective of MEG, an energy of images and a generator of maximum entropy.

Kumar et al. (2019), "Maximum entropy generators for energy-based models", a row of Table 4.
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
    """An energy E(x), low on images, and a generator whose samples have low energy, but spread out.

    The energy minimises E(x) - E(g(z)) + gradient_weight |dE/dx|^2, with the gradient at real
    images only. The generator and a statistic T(x, z) minimise E(g(z)) - I, where

        I = -softplus(-T(g(z), z)) - softplus(T(g(z), z'))

    is a bound of the information in g(z) about z, up to constants; z and z' are independent draws
    from the prior. (The authors shuffle z in a batch instead.) For a generator without noise, this
    information is the entropy of g(z).

    Training infers no z. The networks have the authors' sizes, but T has one more LeakyReLU, after
    the image's features, and there is no batch normalisation, since the loss is that of one
    example. The authors take every step of the energy on a batch of its own; here the steps of one
    iteration see the same images, with other samples.

    Attributes:
        layers: (features, kernel size, stride, padding) of both networks' convolutions.
        width, hidden_width: of the statistic, see `ImageAndVector`.
        gradient_weight: the weight of |dE/dx|^2, the squares summed over pixels. The authors'
            weight of 100 is for a mean over 784 pixels.
        energy_updates: steps of the energy per step of the generator.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: jnp.dtype | None
    layers: tuple[tuple[int, int, int, int], ...] = (
        (64, 5, 2, 2), (128, 5, 2, 2), (256, 5, 2, 2), (512, 5, 2, 2)
    )  # fmt: skip
    width: int = 128
    hidden_width: int = 512
    gradient_weight: float = 0.128
    energy_updates: int = 5

    infers = False
    score_name = "-E(x)"

    def __post_init__(self):
        convolutions.check(self.layers, self.image_shape, "objective.layers")
        check_at_least_one(
            "objective",
            width=self.width,
            hidden_width=self.hidden_width,
            energy_updates=self.energy_updates,
        )
        if not self.gradient_weight >= 0:
            raise UserError(f"objective.gradient_weight={self.gradient_weight}: must be at least 0")

    def check(self, model: Model) -> None:
        """Raises a UserError if inference has a network, which no step would teach."""
        if jax.tree.leaves(jax.eval_shape(model.inference.init, jax.random.key(0))):
            raise UserError(
                "objective.name='meg': training infers no z, so a network of inference would stay"
                " untrained; use the variant :meg"
            )

    def init(self, key: jax.Array) -> dict[str, Tree]:
        """Draws the parameters of the energy and of the statistic."""
        of_energy, of_statistic = jax.random.split(key)
        image, z = jnp.zeros(self.image_shape), jnp.zeros(self.latent_dim)
        return {
            "energy": self._energy_network().init(of_energy, image),
            "statistic": self._statistic_network().init(of_statistic, image, z),
        }

    @property
    def updates(self) -> tuple[Update, ...]:
        """Steps of the energy, then one of the generator together with the statistic."""
        return (
            Update(self._energy_loss, ("energy",), self.energy_updates),
            Update(self.loss, ("prior", "generator", "statistic")),
        )

    def _energy_loss(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> Loss:
        """E(x) - E(g(z)) + gradient_weight |dE/dx|^2 with z from the prior."""
        psi = prepared.psi
        _, sample = self._sample(model, prepared, keys.loss, example)
        energy, slope = jax.value_and_grad(self._energy, argnums=1)(psi, example.image)
        of_sample = self._energy(psi, sample)
        penalty = jnp.sum(jnp.square(occlude(slope, example.mask)))
        metrics = {
            "loss_energy": energy - of_sample,
            "energy": energy,
            "energy_of_samples": of_sample,
            "energy_slope": jnp.sqrt(penalty),
        }
        return Loss(energy - of_sample + self.gradient_weight * penalty, metrics)

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """E(g(z)) - I, of the generator and the statistic."""
        z_key, other_key = jax.random.split(keys.loss)
        z, sample = self._sample(model, prepared, z_key, example)
        other = model.prior.sample(prepared.alpha, other_key)
        network, psi = self._statistic_network(), prepared.psi
        pair: Any = network.apply(psi["statistic"], sample, z)
        no_pair: Any = network.apply(psi["statistic"], sample, other)
        information = -jax.nn.softplus(-pair) - jax.nn.softplus(no_pair)
        energy = self._energy(psi, sample)
        return Loss(energy - information, {"loss_generator": energy, "information": information})

    def score(self, model: Model, prepared: Parameters, example: Example) -> jax.Array:
        """-E(x)."""
        del model
        return -self._energy(prepared.psi, example.image)

    def _energy(self, psi: dict[str, Tree], image: Array) -> jax.Array:
        """E(x), [], of an image in [-1, 1], [H, W, C]."""
        energy: Any = self._energy_network().apply(psi["energy"], image)
        (value,) = energy
        return value

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the networks."""
        narrow = {"layers": convolutions.narrowed(settings["layers"]), "energy_updates": 2}
        return settings | narrow | {"width": 8, "hidden_width": 8}

    def _sample(
        self, model: Model, prepared: Parameters, key: jax.Array, example: Example
    ) -> tuple[jax.Array, Array]:
        """z from the prior and g(z), grey where the example's pixels are hidden."""
        z, sample = model.sample(prepared, key)
        return z, occlude(sample, example.mask)

    def _energy_network(self) -> convolutions.Convolutions:
        return convolutions.Convolutions(self.layers, 1, self.dtype)

    def _statistic_network(self) -> ImageAndVector:
        return ImageAndVector(self.layers, self.width, self.hidden_width, self.dtype)
