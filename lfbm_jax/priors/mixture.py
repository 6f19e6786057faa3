"""A mixture of Gaussians fitted after training, as for RAE (Ghosh et al., 2020, section 4)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import check_at_least_one
from lfbm_jax.priors import base


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """p(z) = sum_m w_m N(z; mean_m, L_m L_m^T); N(0, I) until it is fitted.

    Attributes:
        num_components: M, the number of Gaussians, which have full covariances.
    """

    num_components: int = 10

    fitted_afterwards = True

    def __post_init__(self):
        check_at_least_one("prior", num_components=self.num_components)

    def init(self, key: jax.Array) -> dict:
        """log_weights [M] up to a constant, means [M, d], factors L [M, d, d], and fitted = 0.

        Only the lower triangles of the factors are used.
        """
        del key
        count, dim = self.num_components, self.latent_dim
        return {
            "log_weights": jnp.full(count, -jnp.log(1.0 * count)),
            "means": jnp.zeros((count, dim)),
            "factors": jnp.tile(jnp.eye(dim), (count, 1, 1)),
            "fitted": jnp.zeros(()),
        }

    def prepare(self, alpha: dict) -> dict:
        """Alpha with weights that sum to one and triangular factors."""
        log_weights = jax.nn.log_softmax(alpha["log_weights"])
        return {**alpha, "log_weights": log_weights, "factors": jnp.tril(alpha["factors"])}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p(z) in nats; z [d]. That of N(0, I) before the fit, without the mixture's cost."""

        def log_component(mean, factor):
            white = jax.scipy.linalg.solve_triangular(factor, z - mean, lower=True)
            log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor))))
            return jnp.sum(jax.scipy.stats.norm.logpdf(white)) - log_det

        def log_mixture():
            log_components = jax.vmap(log_component)(prepared["means"], prepared["factors"])
            return jax.nn.logsumexp(prepared["log_weights"] + log_components)

        return jax.lax.cond(
            prepared["fitted"] > 0,
            log_mixture,
            lambda: jnp.sum(jax.scipy.stats.norm.logpdf(z)),
        )

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]."""
        component_key, normal_key = jax.random.split(key)
        component = jax.random.categorical(component_key, prepared["log_weights"])
        normal = jax.random.normal(normal_key, (self.latent_dim,))
        fitted = prepared["means"][component] + prepared["factors"][component] @ normal
        return jnp.where(prepared["fitted"] > 0, fitted, normal)

    def fit(self, alpha: dict, draw: Callable[[int], np.ndarray], seed: int) -> dict:
        """Alpha after expectation maximisation (scikit-learn) on one z per training image."""
        from sklearn.mixture import GaussianMixture  # Slow to import and seldom needed.

        mixture = GaussianMixture(self.num_components, random_state=seed)
        mixture.fit(draw(0).astype(np.float64))
        fitted = {
            "log_weights": np.log(mixture.weights_),
            "means": mixture.means_,
            "factors": np.linalg.cholesky(mixture.covariances_),
            "fitted": np.ones(()),
        }
        return jax.tree.map(lambda old, new: new.astype(old.dtype), alpha, fitted)

    @classmethod
    def smoke_settings(cls, settings: dict) -> dict:
        """Reduces the mixture to two Gaussians, since a smoke run has few images."""
        return settings | {"num_components": 2}
