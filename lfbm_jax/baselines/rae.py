"""The regularised autoencoder of Ghosh et al. (2020), "From variational to deterministic
autoencoders": no noise, a regularised generator, and a density of z that is fitted afterwards.

Per image, with z = mu_phi(x), it minimises

    |x - g(z)|^2 + latent_weight * |z|^2 / 2 + regularizer_weight * L_REG    (their Eq. 11)

Without the two weights it is a plain autoencoder. The weights' defaults are ours.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.model import Example, Model, Parameters
from lfbm_jax.priors.base import Base
from lfbm_jax.runs import parts

REGULARIZERS = ("none", "l2", "gradient_penalty", "spectral_norm")


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A deterministic encoder and the generator, then a Gaussian mixture fitted to the z.

    Attributes:
        latent_dim: d.
        regularizer: L_REG: `l2`, the squared weights of the generator; `gradient_penalty`, the
            squared Frobenius norm of dg/dz at z; or, without a term, `spectral_norm`: every
            layer's weights divided by their largest singular value; `none`.
        regularizer_weight, latent_weight: of the terms, at least 0.
        num_components: Gaussians of the mixture, with full covariances.
    """

    latent_dim: int
    regularizer: str = "gradient_penalty"
    regularizer_weight: float = 1e-3
    latent_weight: float = 1e-2
    num_components: int = 10

    def __post_init__(self):
        if self.regularizer not in REGULARIZERS:
            near = parts.did_you_mean(self.regularizer, list(REGULARIZERS))
            raise UserError(f"baseline.regularizer={self.regularizer!r}: {near}")
        for field in ("regularizer_weight", "latent_weight"):
            if not getattr(self, field) >= 0:
                raise UserError(f"baseline.{field}={getattr(self, field)}: must be at least 0")
        if self.num_components < 1:
            raise UserError(f"baseline.num_components={self.num_components}: must be at least 1")

    def adapt(self, model: Model) -> Model:
        """The model with this objective, a mixture as its prior and the generator regularised."""
        if getattr(model.inference, "noise", True) or not hasattr(model.inference, "moments"):
            raise UserError(
                "baseline.name='rae': needs inference=encoder with inference.noise=False;"
                " use the variant :rae"
            )
        return dataclasses.replace(
            model,
            prior=Mixture(self.latent_dim, self.num_components),
            generator=WithWeights(model.generator, self.regularizer == "spectral_norm"),
            objective=self.objective,
        )

    def objective(
        self, model: Model, prepared: Parameters, frozen: Parameters, keys: dict, example: Example
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of one example and what to log of it; arguments as `learning.objective`."""
        x, mask = example.image, example.mask
        posterior = model.inference.infer(
            prepared.phi, keys["inference"], example, model.log_joint(frozen, x, mask)
        )
        image = model.decode(prepared, posterior.z)
        visible = jnp.ones_like(x) if mask is None else jnp.broadcast_to(mask, x.shape)
        squares = jnp.square(x - image) * visible
        penalty = jnp.zeros(())
        if self.regularizer == "l2":
            penalty = prepared.beta["squared_weights"]
        elif self.regularizer == "gradient_penalty":
            # E |J^T v|^2 = |J|_F^2 for v ~ N(0, I).
            v = jax.random.normal(keys["prior_loss"], image.shape, image.dtype)
            _, pull_back = jax.vjp(lambda z: model.decode(prepared, z), posterior.z)
            penalty = jnp.sum(jnp.square(pull_back(v)[0]))
        latent = 0.5 * jnp.sum(jnp.square(posterior.z))
        loss = (
            jnp.sum(squares)
            + self.latent_weight * latent
            + self.regularizer_weight * penalty.astype(latent.dtype)
        )
        metrics = {
            "loss_generator": jnp.sum(squares),
            "loss_latent": latent,
            "loss_regularizer": penalty,
            "mse": jnp.sum(squares) / jnp.sum(visible),
            **posterior.info,
        }
        return loss, metrics


@dataclasses.dataclass(frozen=True)
class Mixture(Base):
    """A prior: N(0, I) until it is fitted, then a mixture of Gaussians.

    Attributes:
        latent_dim: d.
        num_components: M.
    """

    latent_dim: int
    num_components: int

    normalized = True

    def init(self, key: jax.Array) -> dict:
        """log_weights [M], means [M, d] and factors [M, d, d], Cholesky factors of covariances."""
        del key
        count, dim = self.num_components, self.latent_dim
        return {
            "log_weights": jnp.full(count, -jnp.log(1.0 * count)),
            "means": jnp.zeros((count, dim)),
            "factors": jnp.tile(jnp.eye(dim), (count, 1, 1)),
        }

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p(z) in nats; z [d]."""

        def log_component(mean, factor):
            white = jax.scipy.linalg.solve_triangular(factor, z - mean, lower=True)
            log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
            return jnp.sum(jax.scipy.stats.norm.logpdf(white)) - log_det

        log_components = jax.vmap(log_component)(prepared["means"], prepared["factors"])
        return jax.nn.logsumexp(prepared["log_weights"] + log_components)

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]."""
        component_key, normal_key = jax.random.split(key)
        component = jax.random.categorical(component_key, prepared["log_weights"])
        normal = jax.random.normal(normal_key, (self.latent_dim,))
        return prepared["means"][component] + prepared["factors"][component] @ normal

    def fit(self, alpha: dict, z: np.ndarray, seed: int) -> dict:
        """Expectation maximisation on latent vectors [N, d], by scikit-learn."""
        from sklearn.mixture import GaussianMixture  # Slow to import, seldom needed.

        mixture = GaussianMixture(self.num_components, random_state=seed)
        mixture.fit(z.astype(np.float64))
        fitted = {
            "log_weights": np.log(mixture.weights_),
            "means": mixture.means_,
            "factors": np.linalg.cholesky(mixture.covariances_),
        }
        return jax.tree.map(lambda old, new: new.astype(old.dtype), alpha, fitted)


@dataclasses.dataclass(frozen=True)
class WithWeights:
    """A generator that, prepared, also knows its squared weights, or that has them normalised.

    Attributes:
        generator: any.
        spectral_norm: whether each kernel, as a matrix with a row for every output channel, is
            divided by its largest singular value (Miyato et al. 2018).
    """

    generator: Any
    spectral_norm: bool

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.generator.image_shape

    def init(self, key: jax.Array) -> dict:
        return self.generator.init(key)

    def prepare(self, beta: dict) -> dict:
        """The prepared generator, and the sum of the squares of all its kernels."""
        kernels, tree = jax.tree.flatten(beta)
        squares = sum(jnp.sum(jnp.square(leaf)) for leaf in kernels if leaf.ndim > 1)
        if self.spectral_norm:
            beta = tree.unflatten(_normalized(leaf) for leaf in kernels)
        return {"generator": self.generator.prepare(beta), "squared_weights": squares}

    def apply(self, prepared: dict, z: jax.Array) -> jax.Array:
        return self.generator.apply(prepared["generator"], z)

    def flops(self) -> int:
        return self.generator.flops()


def _normalized(leaf: jax.Array) -> jax.Array:
    """A kernel [..., out] divided by its largest singular value as a matrix; biases as they are."""
    if leaf.ndim < 2:
        return leaf
    matrix = leaf.reshape(-1, leaf.shape[-1])
    return leaf / jnp.sqrt(jnp.linalg.eigvalsh(matrix.T @ matrix)[-1])
