"""The objective of every model in Table 1: Eq. 6 and 7, and the negative of Eq. 24."""

import dataclasses
from typing import Any

import jax

from lfbm_jax.errors import UserError
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.objectives import base
from lfbm_jax.objectives.base import Keys, Loss


@dataclasses.dataclass(frozen=True)
class Objective(base.Objective):
    """-log p(x|z) + prior.loss(z) + log q(z|x), in nats.

    For chains, no gradient flows through z and log q is 0, so the gradients are those of Eq. 6 and
    7. With an inference network and a normalised prior, the loss is the negative evidence lower
    bound, Eq. 24. The loss of the inference method itself, `Posterior.loss`, is added.
    """

    def check(self, model: Model) -> None:
        """Raises a UserError if nothing teaches the deviation of q(z|x), which log q(z|x) has."""
        if model.inference.has_density and model.inference.is_deterministic_network:
            raise UserError(
                "inference.noise=False: the objective 'variational' needs draws of z to teach their"
                " deviation; set inference.noise=True, or use the variant :ae or :rae"
            )

    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """See the base class."""
        frozen = jax.lax.stop_gradient(prepared)
        x, mask = example.image, example.mask
        posterior = base.infer(model, prepared, keys.inference, example)
        z = posterior.z
        image = model.decode(prepared, z)
        log_p_x_given_z = model.log_p_x_given_mean(prepared, x, image, mask)
        prior_loss = model.prior.loss(prepared.alpha, keys.loss, z)
        negative_bound = -log_p_x_given_z + prior_loss + posterior.log_q
        metrics: dict[str, Any] = {
            "loss_generator": -log_p_x_given_z,
            "loss_prior": prior_loss,
            "log_joint": model.log_p_z(frozen, z) + log_p_x_given_z,
            "mse": base.mse(example, image),
            **posterior.info,
        }
        if model.inference.has_density and model.prior.normalized:
            metrics["elbo"] = -negative_bound
        if model.learned_sigma:
            metrics["sigma"] = model.sigma_of(frozen)
        return Loss(negative_bound + posterior.loss, metrics, z)
