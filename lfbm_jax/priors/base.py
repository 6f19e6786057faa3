"""The contract of a prior p_alpha(z); every other module in this folder is one prior."""

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

    Each module in this folder defines a frozen dataclass `Prior` that inherits from this one. The
    builder passes `latent_dim`. Fields with a default are the settings in the config section
    `prior`. Alpha and its prepared form are trees of arrays. Matrix products in public methods, and
    in their gradients, have full float32 precision.

    Attributes:
        latent_dim: d.
        normalized: whether `log_prob` is the log of a density that integrates to 1. If it is known
            only up to a constant, no bound on log p(x) is reported.
        has_potential: whether the gradient of `log_prob` in z is the slope of its value, as methods
            that accept or reject by the value need.
        fitted_afterwards: whether `fit` fits alpha after training, instead of alpha being learned
            with the generator. If so, alpha is a dictionary whose entry "fitted", [], is 1 for
            results of `fit` and 0 before.
    """

    latent_dim: int

    normalized: ClassVar[bool] = True
    has_potential: ClassVar[bool] = True
    fitted_afterwards: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any):
        """Sets full float32 precision for all public methods, including those of mixins."""
        super().__init_subclass__(**keywords)
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, precision.full(method))

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Tree:
        """Random parameters alpha, in the default floating type."""

    def prepare(self, alpha: Tree) -> Tree:
        """Computes what depends only on alpha: once per update, inside the gradient."""
        return alpha

    @abc.abstractmethod
    def log_prob(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, []; z [d]. Up to a constant if not `normalized`."""

    @abc.abstractmethod
    def sample(self, prepared: Tree, key: jax.Array) -> jax.Array:
        """One draw, [d]."""

    def loss(self, prepared: Tree, key: jax.Array, z: jax.Array) -> jax.Array:
        """The loss to minimise over alpha for an inferred z, []: -log p_alpha(z), Eq. 6.

        For every prior, its gradient in z is that of -log p_alpha(z). No gradient is stopped here.

        Args:
            prepared: prepared alpha.
            key: the random key of the example, for priors whose loss draws samples.
            z: the inferred latent vector, [d].
        """
        del key
        return -self.log_prob(prepared, z)

    def forward(self, prepared: Tree, z0: jax.Array) -> jax.Array:
        """z = f(z0), [d], for a base vector z0 ~ N(0, I); z0 itself for priors without a flow."""
        del prepared
        return z0

    def inverse(self, prepared: Tree, z: jax.Array) -> jax.Array:
        """z0 = f^-1(z), [d]; z itself for priors without a flow."""
        del prepared
        return z

    @property
    def generator_dim(self) -> int:
        """The number of leading entries of z that the generator sees; by default all."""
        return self.latent_dim

    def reference_counts(self) -> dict[str, int]:
        """Published parameter counts that differ from ours, by name, for `describe`."""
        return {}

    def is_fitted(self, alpha: Tree) -> bool:
        """Whether alpha can be sampled from; if `fitted_afterwards`, whether `fit` returned it."""
        return not self.fitted_afterwards or bool(alpha["fitted"])

    def unfitted(self, alpha: Tree) -> Tree:
        """Alpha as it is while the generator learns, for a run that goes on after `fit`."""
        return {**alpha, "fitted": 0 * alpha["fitted"]} if self.fitted_afterwards else alpha

    def fit(self, alpha: Tree, draw: Callable[[int], np.ndarray], seed: int) -> Tree:
        """Alpha, fitted to latent vectors inferred from all training images.

        Called only if `fitted_afterwards` is True.

        Args:
            alpha: the parameters before the fit.
            draw: epoch -> z [N, d], inferred from all N training images, again in every epoch.
            seed: seeds all random numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} is learned with the generator")
