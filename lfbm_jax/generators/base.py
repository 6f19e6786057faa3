"""The contract of a generator g_beta(z); every other module in this folder is one generator."""

import abc
import dataclasses

import jax

from lfbm_jax.model import Part, Tree


@dataclasses.dataclass(frozen=True)
class Generator(Part, abc.ABC):
    """Maps one latent vector to its mean image (section 3.1); `jax.vmap` makes batches.

    Each module in this folder defines a frozen dataclass `Generator` that inherits from this one.
    The builder passes the fields below. Fields with a default are the settings in the config
    section `generator`. Beta and its prepared form are trees of arrays.

    Attributes:
        latent_dim: the number of entries of z.
        image_shape: (height, width, channels).
        dtype: the type in which the layers compute; None for the type of z and beta.
    """

    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: jax.typing.DTypeLike | None

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Tree:
        """Draws random parameters beta, in the default floating type."""

    def prepare(self, beta: Tree) -> Tree:
        """Does the work that depends on beta alone, once per update, inside the gradient."""
        return beta

    @abc.abstractmethod
    def apply(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """Returns the mean image g(z), [H, W, C] in [-1, 1], in the type of z; z is [latent_dim].

        Under `jax.vmap` this costs no more than a batched call would.
        """

    @abc.abstractmethod
    def flops(self) -> int:
        """Floating-point operations of a forward pass per image, 2 per multiply-add."""
