"""The contract of an objective; every other module of this folder is one objective."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax

from lfbm_jax.model import Example, Model, Parameters


class Loss(NamedTuple):
    """What an objective says of one example.

    Attributes:
        value: what training minimises, [].
        metrics: scalars to log, "mse" among them; all examples have the same.
        z: the inferred latent vector, [d]; the next start of a chain that is kept.
    """

    value: jax.Array
    metrics: dict[str, jax.Array]
    z: jax.Array


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """What training minimises over alpha, beta and phi: its mean over the examples of a batch.

    A module of this folder defines a frozen dataclass `Objective` that inherits from this one; its
    fields, each with a default, are the settings of the config section `objective`.
    """

    def check(self, model: Model) -> None:
        """UserError where the objective cannot be computed for this model."""
        del model

    @abc.abstractmethod
    def loss(
        self,
        model: Model,
        prepared: Parameters,
        frozen: Parameters,
        keys: dict[str, jax.Array],
        example: Example,
    ) -> Loss:
        """The loss of one example.

        Args:
            model: the model.
            prepared: prepared parameters, to be differentiated.
            frozen: the same without gradient; inference climbs their density.
            keys: "inference" and "prior_loss", this example's own.
            example: with the image as x in [-1, 1], and the start of its chain where one is kept.
        """

    def weight_penalty(self, beta: Any) -> jax.Array | None:
        """A term that depends on the generator's parameters alone, []; None for no such term."""
        del beta
        return None

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """The config section's settings, shrunk where a two-step `:smoke` run needs it."""
        return settings
