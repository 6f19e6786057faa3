"""The contract of an inference method; every other module in this folder is one method."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax

from lfbm_jax.model import Example, Model, Parameters, Part, Tree

# z [d] -> (log p(z), log p(x|z)), both in nats; their sum is the log joint density.
LogJoint = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
# (parameters, a few training examples) -> new phi.
Tune = Callable[[Parameters, Example], Tree]


class Posterior(NamedTuple):
    """The result of inference for one example.

    Attributes:
        z: the latent vector, [d]; without gradient for Langevin dynamics, reparameterised for
            encoders.
        log_q: log q(z|x) in nats, []; 0 if the method has no density.
        info: scalars to be logged.
        start: where the chain started, [d]; None if there was no chain.
        loss: what phi minimises beside the objective, [], such as the loss of a network that is
            taught by the end of the chain. Its gradient is in phi alone. 0 if there is none.
    """

    z: jax.Array
    log_q: jax.Array
    info: dict[str, jax.Array]
    start: jax.Array | None = None
    loss: jax.Array | float = 0.0


@dataclasses.dataclass(frozen=True)
class Inference(Part, abc.ABC):
    """Draws z from the posterior p(z|x) of one image, or nearly so; `jax.vmap` makes batches.

    Each module in this folder defines a frozen dataclass `Inference` that inherits from this one.
    The builder passes `latent_dim`, and also `image_shape` and `dtype` to methods that have fields
    of these names. Fields with a default are the settings in the config sections `inference` (in
    training), `eval_inference` (in evaluation) and `masked_inference` (for incomplete images in
    evaluation).

    Attributes:
        latent_dim: d.
        has_density: whether log_q is a normalised density. If so, the objective is a bound.
        needs_potential: whether it accepts or rejects by the value of log_joint, which must then be
            the one whose slope its gradient is (`Prior.has_potential`).
        takes_masks: whether log_joint may depend on only some of the image's pixels.
        keeps_chains: whether the last z of each training image is kept to start its next chain.
        tune_every: the number of training steps between two calls of the function that `tuner`
            returns; 0 for no calls.
        tune_images: the number of training images in such a call.
    """

    latent_dim: int

    has_density: ClassVar[bool] = False
    needs_potential: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = False
    keeps_chains: ClassVar[bool] = False
    tune_every = 0
    tune_images = 0

    def init(self, key: jax.Array) -> Tree:
        """Draws random parameters phi of an inference network; None for Langevin dynamics."""
        del key

    @abc.abstractmethod
    def infer(
        self,
        phi: Tree,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Infers z from one example.

        Args:
            phi: the parameters.
            key: the example's own key. It determines the start and the noise of a chain, or the
                draw of a network.
            example: the example, whose image is x in [-1, 1], [H, W, C], grey where masked.
            log_joint: z [d] -> (log p(z), log p(x|z)), in nats, for the visible pixels.
            start: the start of the chain, [d]; None lets the method draw it, by default from
                N(0, I). Networks ignore it.

        Returns:
            z, log q(z|x), diagnostics and, for some methods, a loss of their own. No gradient flows
            back from the z of a chain. Gradients flow to phi through the z and the log q of a
            network, and through the loss.
        """

    @property
    def is_deterministic_network(self) -> bool:
        """Whether z is a differentiable function of the image alone, as an autoencoder needs."""
        return False

    def tuner(self, model: Model) -> Tune | None:
        """Returns the function that chooses phi every `tune_every` steps; None for no search."""
        del model
        return None

    def flops(self) -> int:
        """Floating-point operations of a network's forward pass per image; 0 without a network."""
        return 0
