"""The precision of matrix products and convolutions.

The config's `precision` speaks of the generator and the inference network alone. The products of
priors and of densities are full float32 products under every setting: on an accelerator the others
would err by tenths of a nat in log p(z).

JAX writes the precision into every product when a function is traced, and the derivatives of a
product inherit it, wherever they are computed. Rules of custom derivatives are traced later: so
`of_networks` has to surround whatever differentiates a network too.
"""

import contextlib

import jax
import ml_collections

# `precision` and JAX's name for it. "tensorfloat32" is three bfloat16 passes on a TPU.
PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}

# Decorates a function, or opens a context, whose products are full float32 products.
full = jax.default_matmul_precision(PRECISIONS["float32"])


def of_networks(config: ml_collections.ConfigDict) -> contextlib.AbstractContextManager:
    """The context, or decorator, of functions that run the config's networks."""
    return jax.default_matmul_precision(PRECISIONS[config.precision])
