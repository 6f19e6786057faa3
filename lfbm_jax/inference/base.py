"""The contract of an inference method; every other module of this folder is one method."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax

from lfbm_jax.model import Example, Model, Parameters, Part, Tree

# z [d] -> (log p(z), log p(x|z)), both in nats; their sum is the log joint density.
LogJoint = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
# (parameters, some training examples) -> new phi.
Tune = Callable[[Parameters, Example], Tree]


class Posterior(NamedTuple):
    """What was inferred from one example.

    Attributes:
        z: the latent vector, [d]; stopped (no gradient) for Langevin dynamics, reparameterised for
            encoders.
        log_q: log q(z|x) in nats, []; 0 where the method has no density.
        info: scalars worth logging.
    """

    z: jax.Array
    log_q: jax.Array
    info: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Inference(Part, abc.ABC):
    """Draws z from the posterior p(z|x) of one image, or near it; `jax.vmap` makes batches.

    A module of this folder defines a frozen dataclass `Inference` that inherits from this one. The
    builder gives `latent_dim`, and `image_shape` and `dtype` where a field of that name asks for
    them; fields with a default are the settings of the config sections `inference` (in training),
    `eval_inference` (in evaluation) and `masked_inference` (of incomplete images in evaluation).

    Attributes:
        latent_dim: d.
        has_density: whether log_q is that of a normalised density: the objective is then a bound.
        takes_masks: whether log_joint may be of some pixels of the image only.
        keeps_chains: whether the z of every training image are kept as the start of its next chain.
        tune_every: training steps between two calls of what `tuner` returns; 0 for none.
        tune_images: training images that such a call looks at.
    """

    latent_dim: int

    has_density: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = False
    keeps_chains: ClassVar[bool] = False
    tune_every = 0
    tune_images = 0

    def init(self, key: jax.Array) -> Tree:
        """Random parameters phi of an inference network; None for Langevin dynamics."""
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
            key: the example's own key; it decides the start and the noise of a chain, or the draw.
            example: its image is x in [-1, 1], [H, W, C], grey where it is masked.
            log_joint: z [d] -> (log p(z), log p(x|z)), in nats, of the visible pixels.
            start: where a chain starts, [d]; None draws it from N(0, I). Networks ignore it.

        Returns:
            z, log q(z|x) and diagnostics. From a chain's z no gradient flows back; through a
            network's z and log q gradients flow to phi.
        """

    @property
    def is_deterministic_network(self) -> bool:
        """Whether z is a differentiable function of the image alone, as an autoencoder needs."""
        return False

    def tuner(self, model: Model) -> Tune | None:
        """What chooses phi every `tune_every` steps where no gradient does; None for nothing."""
        del model
        return None

    def flops(self) -> int:
        """Floating-point operations of a network's forward pass of one image; 0 without one."""
        return 0
