"""Latent flow-based models: a normalizing-flow prior and a generator, learned together."""

import os
import sys

# XLA's own lines stay off the terminal unless the user asks for them; read when JAX is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# distrax imports TensorFlow, through TensorFlow Probability, wherever it is installed, though it
# makes no use of it: seconds for every process. Here it finds none; whoever prepares a TFDS data
# set imports it afterwards.
if "tensorflow" not in sys.modules:
    sys.modules["tensorflow"] = None
    import distrax  # noqa: F401

    del sys.modules["tensorflow"]


def __getattr__(name: str):
    """`lfbm_jax.load`, imported when it is asked for: it brings the checkpoint library."""
    if name == "load":
        from lfbm_jax.runs.restore import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
