"""A linear generator: with a standard normal prior, its posterior is known in closed form."""

import dataclasses
from typing import Any

import jax
import numpy as np

from lfbm_jax.generators import base
from lfbm_jax.model import Model
from lfbm_jax.objectives import variational
from lfbm_jax.priors import gaussian


def linear_model(latent_dim, image_shape, sigma, inference=None, eval_inference=None):
    """z ~ N(0, I), x = A z + b + sigma * noise."""
    return Model(
        gaussian.Prior(latent_dim),
        LinearGenerator(latent_dim, image_shape),
        inference,
        eval_inference,
        sigma,
        variational.Objective(),
    )


@dataclasses.dataclass(frozen=True)
class LinearGenerator(base.Generator):
    """g(z) = A z + b as an image; beta = {"matrix": A [H W C, d], "bias": b [H W C]}."""

    dtype: Any = None

    def init(self, key):
        size = int(np.prod(self.image_shape))
        matrix_key, bias_key = jax.random.split(key)
        return {
            "matrix": jax.random.normal(matrix_key, (size, self.latent_dim)),
            "bias": jax.random.normal(bias_key, (size,)),
        }

    def apply(self, prepared, z):
        return (prepared["matrix"] @ z + prepared["bias"]).reshape(self.image_shape)

    def flops(self):
        return 2 * self.latent_dim * int(np.prod(self.image_shape))


def posterior(beta, sigma, x):
    """Mean [d] and precision [d, d] of p(z|x) for z ~ N(0, I), x = A z + b + sigma * noise."""
    matrix, bias = np.asarray(beta["matrix"]), np.asarray(beta["bias"])
    precision = np.eye(matrix.shape[1]) + matrix.T @ matrix / sigma**2
    mean = np.linalg.solve(precision, matrix.T @ (np.ravel(x) - bias) / sigma**2)
    return mean, precision
