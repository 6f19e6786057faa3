"""The objective of EBM-VAE: a VAE and an energy of pairs (x, z), learned jointly.

Han et al. (2020), "Joint training of variational auto-encoder and latent energy-based model", a row
of Table 4.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one
from lfbm_jax.images.pixels import occlude
from lfbm_jax.layers import convolutions, spectral_norm
from lfbm_jax.layers.image_and_vector import ImageAndVector
from lfbm_jax.model import Array, Example, Model, Parameters, Tree
from lfbm_jax.objectives import base
from lfbm_jax.objectives.base import Keys, Loss, Update


@dataclasses.dataclass(frozen=True)
class Objective(base.Objective):
    """The divergence triangle of encoder pairs Q, generator pairs P and an energy E(x, z).

    max over E and min over the others of KL(Q || P) - KL(Q || exp(-E)) + KL(P || exp(-E)), with
    Q = data q_phi(z|x) and P = p(z) p(x|z). For z_q drawn from the encoder and z from the prior:

        energy:     E(x, z_q) - E(g(z), z)
        encoder:    -log p(x|z_q) - log p(z_q) - E(x, z_q)
        generator:  -log p(x|z_q) + E(g(z), z), with z_q fixed.

    The entropy of q_phi cancels in the encoder's loss. That of P is a constant of the generator's,
    since p(z) is N(0, I) and sigma fixed. E is the softplus of a network whose kernels
    are divided by their largest singular values. The published networks are for CIFAR-10 and larger
    than two cores can train; the default layers are ours.

    Attributes:
        layers: (features, kernel size, stride, padding) of the energy's convolutions.
        width, hidden_width: of the energy, see `ImageAndVector`.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: jnp.dtype | None
    layers: tuple[tuple[int, int, int, int], ...] = ((32, 4, 2, 1), (64, 4, 2, 1))
    width: int = 128
    hidden_width: int = 256

    score_name = "-E(x, mean of q(z|x))"

    def __post_init__(self):
        convolutions.check(self.layers, self.image_shape, "objective.layers")
        check_at_least_one("objective", width=self.width, hidden_width=self.hidden_width)

    def check(self, model: Model) -> None:
        """Raises a UserError unless there are an encoder, the prior N(0, I) and a fixed sigma."""
        learned = jax.tree.leaves(jax.eval_shape(model.prior.init, jax.random.key(0)))
        if not model.inference.has_density or learned or model.learned_sigma:
            raise UserError(
                "objective.name='ebm_vae': needs an encoder, such as inference=encoder, needs the"
                " prior N(0, I), and a fixed sigma; use the variant :ebm_vae"
            )

    def init(self, key: jax.Array) -> dict[str, Tree]:
        """Draws the parameters of the energy."""
        image, z = jnp.zeros(self.image_shape), jnp.zeros(self.latent_dim)
        return {"energy": self._network().init(key, image, z)}

    @property
    def updates(self) -> tuple[Update, ...]:
        """A step each of the energy, the encoder and the generator, in the authors' order."""
        return (
            Update(self._energy_loss, ("energy",)),
            Update(self._encoder_loss, ("inference",)),
            Update(self.loss, ("prior", "generator")),
        )

    def _energy_loss(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> Loss:
        """E(x, z_q) - E(g(z), z)."""
        z_q = base.infer(model, prepared, keys.inference, example).z
        of_image = self._energy(prepared.psi, example.image, z_q)
        of_sample = self._energy_of_sample(model, prepared, keys, example)
        metrics = {"energy": of_image, "energy_of_samples": of_sample}
        return Loss(of_image - of_sample, metrics)

    def _encoder_loss(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> Loss:
        """-log p(x|z_q) - log p(z_q) - E(x, z_q)."""
        posterior = base.infer(model, prepared, keys.inference, example)
        z_q = posterior.z
        joint = sum(model.log_joint(prepared, example.image, example.mask)(z_q))
        value = -joint - self._energy(prepared.psi, example.image, z_q)
        return Loss(value, {"loss_encoder": value, **posterior.info})

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """-log p(x|z_q) - log p(z_q) + E(g(z), z), of the generator."""
        z_q = jax.lax.stop_gradient(base.infer(model, prepared, keys.inference, example).z)
        x, mask = example.image, example.mask
        image = model.decode(prepared, z_q)
        log_p_x_given_z = model.log_p_x_given_mean(prepared, x, image, mask)
        prior_loss = model.prior.loss(prepared.alpha, keys.loss, z_q)
        energy = self._energy_of_sample(model, prepared, keys, example)
        metrics = {
            "loss_generator": -log_p_x_given_z,
            "loss_prior": prior_loss,
            "mse": base.mse(example, image),
        }
        return Loss(prior_loss - log_p_x_given_z + energy, metrics, z_q)

    def score(self, model: Model, prepared: Parameters, example: Example) -> jax.Array:
        """-E(x, z) with z by the inference of evaluation, the encoder's mean by default."""
        log_joint = model.log_joint(prepared, example.image, example.mask)
        z = model.eval_inference.infer(prepared.phi, jax.random.key(0), example, log_joint).z
        return -self._energy(prepared.psi, example.image, z)

    def _energy(self, psi: dict[str, Tree], image: Array, z: jax.Array) -> jax.Array:
        """E(x, z) > 0, [], of an image in [-1, 1], [H, W, C], and z [d]."""
        parameters = jax.tree.map(spectral_norm.normalized, psi["energy"])
        raw: Any = self._network().apply(parameters, image, z)
        return jax.nn.softplus(raw)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the energy's network."""
        narrow = {"width": 8, "hidden_width": 8}
        return settings | narrow | {"layers": convolutions.narrowed(settings["layers"])}

    def _energy_of_sample(
        self, model: Model, prepared: Parameters, keys: Keys, example: Example
    ) -> jax.Array:
        """E(g(z), z), [], with z from the prior; hidden pixels of the example are grey."""
        z, sample = model.sample(prepared, keys.loss)
        return self._energy(prepared.psi, occlude(sample, example.mask), z)

    def _network(self) -> ImageAndVector:
        return ImageAndVector(self.layers, self.width, self.hidden_width, self.dtype)
