"""The objective of the regularised autoencoder (RAE; Ghosh et al., 2020, "From variational to
deterministic autoencoders"). The density of z is fitted after training.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.model import Example, Model, Parameters, Tree
from lfbm_jax.objectives import base
from lfbm_jax.objectives.base import Keys, Loss

REGULARIZERS = ("none", "l2", "gradient_penalty")


@dataclasses.dataclass(frozen=True)
class Objective(base.Objective):
    """|x - g(z)|^2 + latent_weight |z|^2 / 2 + regularizer_weight L_REG, z = mu_phi(x).

    This is Eq. 11 of the RAE paper. With both weights at 0 it is a plain autoencoder. The default
    weights are ours. The third regulariser of that paper, spectral normalisation, is a setting of
    the generator.

    Attributes:
        regularizer: selects L_REG: `l2`, the sum of the generator's squared weights;
            `gradient_penalty`, the squared Frobenius norm of dg/dz at z; or `none`.
        regularizer_weight, latent_weight: the weights of the two terms, at least 0.
    """

    regularizer: str = "gradient_penalty"
    regularizer_weight: float = 1e-3
    latent_weight: float = 1e-2

    def __post_init__(self):
        if self.regularizer not in REGULARIZERS:
            near = did_you_mean(self.regularizer, REGULARIZERS)
            raise UserError(f"objective.regularizer={self.regularizer!r}: {near}")
        weights = {"regularizer": self.regularizer_weight, "latent": self.latent_weight}
        for name, weight in weights.items():
            if not weight >= 0:
                raise UserError(f"objective.{name}_weight={weight}: must be at least 0")

    def check(self, model: Model) -> None:
        """Raises a UserError unless inference is a noise-free encoder and no prior has to learn."""
        if not model.inference.is_deterministic_network:
            raise UserError(
                "objective.name='rae': needs inference=encoder with inference.noise=False;"
                " use the variant :rae"
            )
        learned = jax.tree.leaves(jax.eval_shape(model.prior.init, jax.random.key(0)))
        if learned and not model.prior.fitted_afterwards:
            raise UserError(
                "objective.name='rae': its loss does not train the prior, so the parameters of"
                " this one would stay as drawn; use prior=mixture, another that is fitted after"
                " training, or prior=gaussian"
            )

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """See the base class."""
        x, mask = example.image, example.mask
        posterior = base.infer(model, prepared, keys.inference, example)
        z = posterior.z
        image = model.decode(prepared, z)
        visible = jnp.ones_like(x) if mask is None else jnp.broadcast_to(mask, x.shape)
        squares = jnp.square(x - image) * visible
        latent = 0.5 * jnp.sum(jnp.square(z))
        value = jnp.sum(squares) + self.latent_weight * latent
        metrics = {
            "loss_generator": jnp.sum(squares),
            "loss_latent": latent,
            "mse": jnp.sum(squares) / jnp.sum(visible),
            **posterior.info,
        }
        if self.regularizer == "gradient_penalty":
            # E |J^T v|^2 = |J|_F^2 for v ~ N(0, I).
            v = jax.random.normal(keys.loss, image.shape, image.dtype)
            _, pull_back = jax.vjp(lambda z: model.decode(prepared, z), z)
            penalty = jnp.sum(jnp.square(pull_back(v)[0])).astype(latent.dtype)
            value = value + self.regularizer_weight * penalty
            metrics["loss_regularizer"] = penalty
        return Loss(value, metrics, z)

    def weight_penalty(self, beta: Tree) -> jax.Array | None:
        """The weighted sum of squares of all kernels for `l2`, otherwise None; omits biases."""
        if self.regularizer != "l2":
            return None
        kernels = (leaf for leaf in jax.tree.leaves(beta) if leaf.ndim > 1)
        squares: Any = sum(jnp.sum(jnp.square(leaf)) for leaf in kernels)
        return self.regularizer_weight * squares
