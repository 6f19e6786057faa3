"""Latent flow-based models: a normalizing-flow prior and a generator, learned together."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # What type checkers and editors read; see `_PUBLIC`.
    from lfbm_jax.runs.config_files import get_config
    from lfbm_jax.runs.from_python import train
    from lfbm_jax.runs.load import load

# Keeps XLA's own log lines off the terminal unless the user asks for them. JAX reads this variable
# when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# distrax imports TensorFlow (through TensorFlow Probability) if it is installed, without using it,
# which costs every process seconds. Hide TensorFlow during this import; code that prepares a TFDS
# data set imports it later.
if "tensorflow" not in sys.modules:
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # makes imports of it fail
    import distrax  # noqa: F401

    del sys.modules["tensorflow"]


# Loaded on first use, because each imports most of the package: name -> module that defines it.
_PUBLIC = {
    "get_config": "lfbm_jax.runs.config_files",
    "load": "lfbm_jax.runs.load",
    "train": "lfbm_jax.runs.from_python",
}
__all__ = ["get_config", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
