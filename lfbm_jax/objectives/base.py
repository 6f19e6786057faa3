"""The contract of an objective; every other module in this folder is one objective."""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from lfbm_jax.model import GROUPS, Example, Model, Parameters, Part, Tree

if TYPE_CHECKING:
    from lfbm_jax.inference.base import Posterior


class Keys(NamedTuple):
    """The random keys of one example, different in every update.

    Attributes:
        inference: the key for the example's chain, or for the draw from its posterior.
        loss: the key for everything else that the loss draws, such as samples from the prior.
    """

    inference: jax.Array
    loss: jax.Array


class Loss(NamedTuple):
    """The loss of one example, with metrics and the inferred latent vector.

    Attributes:
        value: the quantity that the update minimises, [].
        metrics: scalars to log, with the same names for all examples. If several updates use the
            same name, the last update's value is logged. "mse" is the squared reconstruction error
            per pixel value.
        z: the inferred latent vector, [d], from which a persistent chain continues next time; None
            if no z was inferred.
    """

    value: jax.Array
    metrics: dict[str, jax.Array]
    z: jax.Array | None = None


class Update(NamedTuple):
    """One kind of gradient step within an iteration.

    Attributes:
        loss: the loss of one example, see `Objective.loss`. Its mean over a batch is minimised.
        changes: names of the parameter groups that take a step: "prior", "generator", "inference",
            or a network of psi. The other groups stay as they are.
        times: steps per iteration, each with its own random keys.
    """

    loss: Callable[[Model, Parameters, Keys, Example], Loss]
    changes: tuple[str, ...]
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Objective(Part, abc.ABC):
    """The objective of training: a list of updates, each minimising a mean loss over the batch.

    Each module in this folder defines a frozen dataclass `Objective` that inherits from this one.
    The builder passes `latent_dim`, `image_shape` and `dtype` to objectives that have fields of
    these names. Fields with a default are the settings in the config section `objective`.

    An iteration runs the `updates` in order. The paper's method has one update, which changes all
    groups (Algorithm 1). An adversarial objective has several; one of them changes the objective's
    own network, such as a critic. The parameters of such networks are psi, and they learn with the
    settings in `optimizer.objective`.

    Attributes:
        infers: whether training infers z from images, which `describe` then counts.
        score_name: what `score` returns, in words for a report; "" if there is no such score.
    """

    infers: ClassVar[bool] = True
    score_name: ClassVar[str] = ""

    def check(self, model: Model) -> None:
        """Raises a UserError if the objective cannot be computed for this model."""
        del model

    def init(self, key: jax.Array) -> dict[str, Tree] | None:
        """Random parameters psi of the objective's own networks, by name; None if it has none.

        The names appear in the metrics. They must not be "prior", "generator" or "inference".
        """
        del key
        return None

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates of one iteration, in order; by default one update that changes all groups.

        `train.prior_inference_updates` (Table 10) adds updates that do not change the generator.
        """
        return (Update(self.loss, GROUPS),)

    @abc.abstractmethod
    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """The loss of one example.

        Args:
            model: the model.
            prepared: prepared parameters, with respect to which the loss is differentiated.
                Inference must not be differentiated: it uses `jax.lax.stop_gradient(prepared)`.
            keys: the random keys of this example.
            example: the example, with the image x in [-1, 1] and, if chains are persistent, the
                start of its chain.

        Returns:
            The loss. If z was inferred, its value includes the method's own loss, `Posterior.loss`.
        """

    def weight_penalty(self, beta: Tree) -> jax.Array | None:
        """A loss term that depends on the generator's parameters only, []; None for no term."""
        del beta
        return None

    def score(self, model: Model, prepared: Parameters, example: Example) -> jax.Array | None:
        """The method's own score of an image in [-1, 1], [], low for anomalies (section 4.4).

        None, the default, stands for log p(x, z) at the inferred z.
        """
        del model, prepared, example
        return None


def infer(model: Model, prepared: Parameters, key: jax.Array, example: Example) -> "Posterior":
    """z of an example by the model's inference; no gradient flows through the density it follows.

    Args:
        model: the model.
        prepared: prepared parameters; only phi is differentiated.
        key: the key of the chain or of the draw.
        example: the example, whose `start`, if any, is where its chain starts.
    """
    log_joint = model.log_joint(jax.lax.stop_gradient(prepared), example.image, example.mask)
    return model.inference.infer(prepared.phi, key, example, log_joint, example.start)


def mse(example: Example, image: jax.Array) -> jax.Array:
    """The squared error of an image [H, W, C], [], its mean over the example's visible pixels."""
    visible = None if example.mask is None else example.mask > 0
    return jnp.mean(jnp.square(example.image - image), where=visible)
