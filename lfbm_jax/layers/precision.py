"""The precision of matrix products and convolutions.

The config's `precision` applies only to the generator and the inference network. Products in
priors and densities always have full float32 precision; on an accelerator, lower precision would
cause errors of tenths of a nat in log p(z).

JAX fixes the precision of every product when a function is traced, and the derivatives of the
product inherit it. Custom derivative rules are traced later, so `of_networks` must also surround
the code that differentiates a network.
"""

from typing import Any

import jax
import ml_collections

# Maps `precision` to JAX's name. "tensorfloat32" is three bfloat16 passes on a TPU.
PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}

# A decorator or context manager that gives products full float32 precision.
full = jax.default_matmul_precision(PRECISIONS["float32"])


def of_networks(config: ml_collections.ConfigDict) -> Any:
    """A context manager or decorator that sets the config's precision for its networks."""
    return jax.default_matmul_precision(PRECISIONS[config.precision])
