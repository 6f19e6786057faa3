"""Latent flow-based models: a normalizing-flow prior and a generator, learned together."""

import os
import sys

# Keeps XLA's own log lines off the terminal unless the user asks for them. JAX reads this variable
# when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# distrax imports TensorFlow (through TensorFlow Probability) if it is installed, without using it,
# which costs every process seconds. Hide TensorFlow during this import; code that prepares a TFDS
# data set imports it later.
if "tensorflow" not in sys.modules:
    sys.modules["tensorflow"] = None
    import distrax  # noqa: F401

    del sys.modules["tensorflow"]


def __getattr__(name: str):
    """Imports `lfbm_jax.load` on first use, because it loads most of the package."""
    if name == "load":
        from lfbm_jax.runs.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
