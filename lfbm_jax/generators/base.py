"""The contract of a generator g_beta(z); every other module of this folder is one generator."""

import abc
import dataclasses

import jax

from lfbm_jax.model import Part, Tree


@dataclasses.dataclass(frozen=True)
class Generator(Part, abc.ABC):
    """The mean image of one latent vector, Eq. 1; `jax.vmap` makes batches.

    A module of this folder defines a frozen dataclass `Generator` that inherits from this one. The
    builder gives the fields below; fields with a default are the settings of the config section
    `generator`. Beta and its prepared form are trees of arrays.

    Attributes:
        latent_dim: how many entries of z it takes.
        image_shape: (height, width, channels).
        dtype: what its layers compute in; None: the type of z and beta.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: jax.typing.DTypeLike | None

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Tree:
        """Random parameters beta, in the default floating type."""

    def prepare(self, beta: Tree) -> Tree:
        """The work that depends on beta alone, done once per update, inside the gradient."""
        return beta

    @abc.abstractmethod
    def apply(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """The mean image g(z), [H, W, C] in [-1, 1], in the type of z; z [latent_dim].

        Under `jax.vmap` it costs no more than a batched call would.
        """

    @abc.abstractmethod
    def flops(self) -> int:
        """Floating-point operations of one image's forward pass: 2 per multiply-add."""
