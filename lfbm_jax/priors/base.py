"""What every prior is: p_alpha(z), a density on the latent vector that can be drawn from."""

import inspect
from typing import Any

import jax

from lfbm_jax import precision


class Base:
    """The contract of a prior. A module of this folder has a dataclass `Prior(Base)`.

    One latent vector z [d] at a time; `jax.vmap` makes batches. The products in the public methods
    of a subclass are full float32 products, and so are those of their gradients.

    Attributes:
        normalized: whether `log_prob` is the log-density itself; else it is so up to a constant.
    """

    normalized: bool

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, precision.full(method))

    def init(self, key: jax.Array) -> dict:
        """Random parameters alpha."""
        raise NotImplementedError

    def prepare(self, alpha: dict) -> dict:
        """The work that depends on alpha alone: here there is none."""
        return alpha

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, [], of z [d]."""
        raise NotImplementedError

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]."""
        raise NotImplementedError

    def loss(self, prepared: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        """-log p_alpha(z), []: minus Eq. 6 is its gradient in alpha. An encoder needs that in z."""
        del key
        return -self.log_prob(prepared, z)

    def forward(self, prepared: dict, z0: jax.Array) -> jax.Array:
        """z = f(z0), [d], of a base vector z0 ~ N(0, I); without a flow, z0 itself."""
        del prepared
        return z0

    def inverse(self, prepared: dict, z: jax.Array) -> jax.Array:
        """z0 = f^-1(z), [d]; without a flow, z itself."""
        del prepared
        return z
