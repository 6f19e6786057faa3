"""The contract of an objective; every other module of this folder is one objective."""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax

from lfbm_jax.model import GROUPS, Example, Model, Parameters, Part, Tree


class Keys(NamedTuple):
    """The random keys of one example, different in every update.

    Attributes:
        inference: of its chain, or of the draw from its posterior.
        loss: of whatever else the loss draws, such as negatives of the prior.
    """

    inference: jax.Array
    loss: jax.Array


class Loss(NamedTuple):
    """What an objective says of one example.

    Attributes:
        value: what the update minimises, [].
        metrics: scalars to log, the same for all examples; of several updates' metrics of one name
            the last one's are logged. "mse" is the squared error of reconstruction per pixel value.
        z: the inferred latent vector, [d]; the next start of a chain that is kept. None where none
            was inferred.
    """

    value: jax.Array
    metrics: dict[str, jax.Array]
    z: jax.Array | None = None


class Update(NamedTuple):
    """One descent of an iteration.

    Attributes:
        loss: of one example, see `Objective.loss`; its mean over a batch is minimised.
        changes: names of the groups of parameters that take a step: "prior", "generator",
            "inference", or a network of psi. The other groups stay as they are.
        times: steps per iteration, each with random keys of its own.
    """

    loss: Callable[[Model, Parameters, Keys, Example], Loss]
    changes: tuple[str, ...]
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Objective(Part, abc.ABC):
    """What training minimises: the losses of a list of updates, means over the batch.

    A module of this folder defines a frozen dataclass `Objective` that inherits from this one. The
    builder gives `latent_dim`, `image_shape` and `dtype` where a field of that name asks for them;
    fields with a default are the settings of the config section `objective`.

    An iteration takes the `updates` in their order. The paper's method has one, of all groups
    (Algorithm 1). An adversarial objective has several, of which one changes a network of its own:
    a critic, say. Such networks are psi; they learn with the settings of `optimizer.objective`.
    """

    def check(self, model: Model) -> None:
        """UserError where the objective cannot be computed for this model."""
        del model

    def init(self, key: jax.Array) -> dict[str, Tree] | None:
        """Random parameters psi of the objective's own networks, by name; None where it has none.

        The names are shown with the metrics; "prior", "generator" and "inference" are taken.
        """
        del key

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates of one iteration, in their order; here one, of all groups.

        `train.prior_inference_updates` (Table 10) adds updates that leave the generator alone.
        """
        return (Update(self.loss, GROUPS),)

    @abc.abstractmethod
    def loss(self, model: Model, prepared: Parameters, keys: Keys, example: Example) -> Loss:
        """The loss of one example.

        Args:
            model: the model.
            prepared: prepared parameters, to be differentiated. Inference climbs their density
                without gradient: `jax.lax.stop_gradient(prepared)`.
            keys: this example's own.
            example: with the image as x in [-1, 1], and the start of its chain where one is kept.
        """

    def weight_penalty(self, beta: Tree) -> jax.Array | None:
        """A term that depends on the generator's parameters alone, []; None for no such term."""
        del beta
