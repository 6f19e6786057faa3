"""Reads pickles of containers, numbers, text and NumPy arrays without running anything in them.

Only the few functions that rebuild arrays are allowed, and this module replaces them with its own
(see `restricted_pickle`). Pickles from Python 2 work too; their text is read as bytes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.files import restricted_pickle
from lfbm_jax.files.restricted_pickle import NotAllowedError

KINDS = "biufc"  # the allowed kinds of dtype: numbers only


def read(path: Path) -> Any:
    """Reads a pickle file.

    Raises:
        UserError: the file cannot be read, is damaged, or holds anything but containers, numbers,
            text and arrays of numbers.
    """
    try:
        with open(path, "rb") as file:
            return _arrays(_Unpickler(file, encoding="bytes").load())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); try again") from error
    except NotAllowedError as error:
        raise UserError(f"{path} wants to call {error}, which is not allowed: fetch the"
                        " original file") from error
    except Exception as error:  # A damaged pickle may raise anything.
        raise UserError(f"{path} is not a complete pickle ({type(error).__name__}: {error}): fetch"
                        " it again") from error


class _DType:
    """Replaces numpy.dtype, whose pickled state holds the byte order."""

    def __init__(self, code: str | bytes, *_: Any):
        self.dtype = np.dtype(_text(code))
        if self.dtype.kind not in KINDS:
            raise NotAllowedError(f"an array of {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        order = _text(state[1])
        if order in ("<", ">"):
            # NumPy's stubs want a literal.
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class _Array:
    """Replaces numpy.ndarray, whose pickled state holds shape, type and values."""

    def __init__(self, *_: Any):
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        flat = np.frombuffer(content, kind.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Replaces codecs.encode, by which Python 3 writes bytes in protocol 2."""
    if _text(encoding) != "latin1":
        raise ValueError(f"bytes encoded by {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Replaces bytes(), by which Python 3 writes empty bytes in protocol 2."""
    return b""


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _arrays(tree: Any) -> Any:
    """Puts real arrays in place of their replacements."""
    if isinstance(tree, _Array):
        return tree.array
    if isinstance(tree, dict):
        return {key: _arrays(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map(_arrays, tree))
    return tree


class _Unpickler(restricted_pickle.Unpickler):
    allowed = {
        ("numpy", "dtype"): _DType,
        ("numpy", "ndarray"): _Array,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("_codecs", "encode"): _encode,
        ("__builtin__", "bytes"): _no_bytes,
    }
