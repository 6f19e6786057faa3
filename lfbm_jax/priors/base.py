"""The contract of a prior p_alpha(z); every other module of this folder is one prior."""

import abc
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from lfbm_jax.layers import precision
from lfbm_jax.model import Part, Tree


@dataclasses.dataclass(frozen=True)
class Prior(Part, abc.ABC):
    """A density of one latent vector z [d], Eq. 2 and 5; `jax.vmap` makes batches.

    A module of this folder defines a frozen dataclass `Prior` that inherits from this one. The
    builder gives `latent_dim`; fields with a default are the settings of the config section
    `prior`. Alpha and its prepared form are trees of arrays. The products in public methods, and in
    their gradients, are full float32 products.

    Attributes:
        latent_dim: d.
        normalized: whether `log_prob` is a density that integrates to 1; else it is one up to a
            constant, and nothing is reported as a bound on log p(x).
        fitted_afterwards: whether alpha is fitted once training has ended, by `fit`, instead of
            being learned with the generator.
    """

    latent_dim: int

    normalized: ClassVar[bool] = True
    fitted_afterwards: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any):
        """Makes the products of all public methods, mixed-in ones too, full float32 products."""
        super().__init_subclass__(**keywords)
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, precision.full(method))

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Tree:
        """Random parameters alpha, in the default floating type."""

    def prepare(self, alpha: Tree) -> Tree:
        """The work that depends on alpha alone, done once per update, inside the gradient."""
        return alpha

    @abc.abstractmethod
    def log_prob(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, []; z [d]. Up to a constant where it is not `normalized`."""

    @abc.abstractmethod
    def sample(self, prepared: Tree, key: jax.Array) -> jax.Array:
        """One draw, [d]."""

    def loss(self, prepared: Tree, key: jax.Array, z: jax.Array) -> jax.Array:
        """What learning minimises over alpha for an inferred z, []: -log p_alpha(z), Eq. 6.

        Its gradient in z is that of -log p_alpha(z) for every prior; z is not stopped here.

        Args:
            prepared: prepared alpha.
            key: of the example, for priors whose loss needs draws.
            z: the inferred latent vector, [d].
        """
        del key
        return -self.log_prob(prepared, z)

    def forward(self, prepared: Tree, z0: jax.Array) -> jax.Array:
        """z = f(z0), [d], of a base vector z0 ~ N(0, I); without a flow, z0 itself."""
        del prepared
        return z0

    def inverse(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """z0 = f^-1(z), [d]; without a flow, z itself."""
        del prepared
        return z

    @property
    def generator_dim(self) -> int:
        """How many entries of z, from the first on, the generator sees: all of them."""
        return self.latent_dim

    def reference_counts(self) -> dict[str, int]:
        """Parameter counts printed elsewhere that differ from ours, for `describe`."""
        return {}

    def is_fitted(self, alpha: Tree) -> bool:
        """Whether alpha is ready to be sampled from: not before `fit` for a prior that needs it."""
        del alpha
        return True

    def fit(self, alpha: Tree, draw: Callable[[int], np.ndarray], seed: int) -> Tree:
        """Alpha fitted to latent vectors inferred from all training images.

        Called where `fitted_afterwards` is True only.

        Args:
            alpha: as it was.
            draw: epoch -> z [N, d], drawn anew for every epoch from all N training images.
            seed: of whatever is random.
        """
        raise NotImplementedError(f"{type(self).__name__} is learned with the generator")
