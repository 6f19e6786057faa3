"""Spectral normalisation of kernels (Miyato et al., 2018)."""

import jax
import jax.numpy as jnp

from lfbm_jax.layers import precision


@precision.full
def normalized(leaf: jax.Array) -> jax.Array:
    """Divides a kernel [..., out] by its largest singular value as a matrix; keeps biases."""
    if leaf.ndim < 2:
        return leaf
    matrix = leaf.reshape(-1, leaf.shape[-1])
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if columns <= rows else matrix @ matrix.T  # the smaller one
    return leaf / jnp.sqrt(jnp.linalg.eigvalsh(gram)[-1])
