"""A linear generator: with a standard normal prior, its posterior is known in closed form."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.generators import base
from lfbm_jax.inference import base as inference_base
from lfbm_jax.inference.base import Posterior
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


@dataclasses.dataclass(frozen=True)
class LinearEncoder(inference_base.Inference):
    """z = phi x + noise * e with e ~ N(0, I); phi is [d, H W C] for images of `num_pixels`."""

    num_pixels: int
    noise: float = 0.0

    has_density = True

    @property
    def is_deterministic_network(self):
        return not self.noise

    def init(self, key):
        return jax.random.normal(key, (self.latent_dim, self.num_pixels))

    def infer(self, phi, key, example, log_joint, start=None):
        z = phi @ example.image.ravel() + self.noise * jax.random.normal(key, (self.latent_dim,))
        return Posterior(z, jnp.sum(z), {"norm_z": jnp.linalg.norm(z)})


def posterior(beta, sigma, x):
    """Mean [d] and precision [d, d] of p(z|x) for z ~ N(0, I), x = A z + b + sigma * noise."""
    matrix, bias = np.asarray(beta["matrix"]), np.asarray(beta["bias"])
    precision = np.eye(matrix.shape[1]) + matrix.T @ matrix / sigma**2
    mean = np.linalg.solve(precision, matrix.T @ (np.ravel(x) - bias) / sigma**2)
    return mean, precision


def log_evidence(beta, sigma, x):
    """log p(x) in nats, of an image x [H, W, C] or [H W C]."""
    covariance = beta["matrix"] @ beta["matrix"].T + sigma**2 * np.eye(x.size)
    residual = x.ravel() - beta["bias"]
    return -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )


def chain_gaps(mean, precision, step_size, num_steps):
    """KL(q_K | posterior) for every K of `num_steps`: the chain's z is N(m, c) after each step."""
    eye = np.eye(len(mean))
    m, c = np.zeros(len(mean)), eye
    shrink = eye - 0.5 * step_size**2 * precision
    gaps = {}
    for k in range(1, max(num_steps) + 1):
        m = mean + shrink @ (m - mean)
        c = shrink @ c @ shrink.T + step_size**2 * eye
        log_dets = np.linalg.slogdet(precision @ c)[1]
        off = m - mean
        gaps[k] = 0.5 * (np.trace(precision @ c) - len(mean) - log_dets + off @ precision @ off)
    return np.array([gaps[k] for k in num_steps])
