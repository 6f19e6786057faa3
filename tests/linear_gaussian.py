"""A linear generator: with a standard normal prior, its posterior is known in closed form."""

import dataclasses

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class LinearGenerator:
    """g(z) = A z + b as an image; beta = {"matrix": A [H W C, d], "bias": b [H W C]}."""

    latent_dim: int
    image_shape: tuple[int, int, int]

    def init(self, key):
        size = int(np.prod(self.image_shape))
        matrix_key, bias_key = jax.random.split(key)
        return {
            "matrix": jax.random.normal(matrix_key, (size, self.latent_dim)),
            "bias": jax.random.normal(bias_key, (size,)),
        }

    def prepare(self, beta):
        return beta

    def apply(self, prepared, z):
        return (prepared["matrix"] @ z + prepared["bias"]).reshape(self.image_shape)


def posterior(beta, sigma, x):
    """Mean [d] and precision [d, d] of p(z|x) for z ~ N(0, I), x = A z + b + sigma * noise."""
    matrix, bias = np.asarray(beta["matrix"]), np.asarray(beta["bias"])
    precision = np.eye(matrix.shape[1]) + matrix.T @ matrix / sigma**2
    mean = np.linalg.solve(precision, matrix.T @ (np.ravel(x) - bias) / sigma**2)
    return mean, precision
