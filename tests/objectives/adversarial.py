"""A small adversarial objective with networks of its own, which `test_adversarial.py` installs.

After the maximum-entropy generator of Kumar et al. (2019): an energy of images against a
generator, and a statistic that keeps an image informative of its z. Energy and statistic are linear
so that every gradient has a closed form.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.objectives import base
from lfbm_jax.objectives.base import Keys, Loss, Update


@dataclasses.dataclass(frozen=True)
class Objective(base.Objective):
    """Energy w.x, low on images and high on samples; statistic x.S z.

    Attributes:
        energy_updates: of the energy, for one of the generator with the statistic.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    energy_updates: int = 2

    infers = False

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        of_energy, of_statistic = jax.random.split(key)
        size = math.prod(self.image_shape)
        return {
            "energy": 0.1 * jax.random.normal(of_energy, (size,)),
            "statistic": 0.1 * jax.random.normal(of_statistic, (size, self.latent_dim)),
        }

    @property
    def updates(self) -> tuple[Update, ...]:
        return (
            Update(self.energy_loss, ("energy",), self.energy_updates),
            Update(self.loss, ("generator", "statistic")),
        )

    def energy_loss(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> Loss:
        """w.x - w.g(z) + |w|^2 / 2 with z from the prior."""
        w = prepared.psi["energy"]
        _, sample = model.sample(prepared, keys.loss)
        value = jnp.sum(w * (example.image - sample).ravel()) + 0.5 * jnp.sum(w**2)
        return Loss(value, {"loss_energy": value})

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """w.g(z) - g(z).S z + |S|^2 / 2."""
        del example
        z, sample = model.sample(prepared, keys.loss)
        s, x = prepared.psi["statistic"], sample.ravel()
        value = prepared.psi["energy"] @ x - x @ s @ z + 0.5 * jnp.sum(s**2)
        return Loss(value, {"loss_generator": value})
