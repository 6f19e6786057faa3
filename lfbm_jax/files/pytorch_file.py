"""Reads files written by `torch.save` as NumPy arrays, without PyTorch and without running code.

Such a file is a pickle whose tensors refer to storages, flat arrays stored beside it. Since PyTorch
1.6 the pickle and the storages are members of a zip archive; before, they followed each other in
one file. Only the few functions that rebuild tensors are allowed, and this module replaces them
with its own (see `restricted_pickle`).
"""

import collections
import io
import math
import pathlib
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.files import restricted_pickle
from lfbm_jax.files.restricted_pickle import NotAllowedError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file in the old format
NUM_LEGACY_HEADERS = 2  # after the magic: the protocol version, the sizes of C types

STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read(path: str | pathlib.Path) -> Any:
    """Returns the content of a file written by `torch.save`, with tensors as NumPy arrays.

    Args:
        path: the file. It holds a state dict, or several in dictionaries and lists.

    Raises:
        UserError: the file does not exist, is damaged, was not written by PyTorch, or holds
            anything but tensors, containers and numbers.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except NotAllowedError as error:
        raise UserError(
            f"{path} wants to call {error}, which is not allowed; save the state dicts alone"
        ) from error
    except Exception as error:  # A damaged pickle may raise anything.
        raise UserError(
            f"{path} is not a complete file of torch.save"
            f" ({type(error).__name__}: {error}); get it again"
        ) from error


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        order = "little"
        if "byteorder" in members:
            order = archive.read(members["byteorder"]).decode()

        def load(dtype: np.dtype, key: str, size: int) -> np.ndarray:
            values = np.frombuffer(archive.read(members[f"data/{key}"]), dtype)
            if order != sys.byteorder:
                values = values.byteswap()
            if len(values) != size:
                raise ValueError(f"storage {key} has {len(values)} values instead of {size}")
            return values

        return _Unpickler(io.BytesIO(archive.read(members["data.pkl"])), load).load()


def _read_legacy(file: BinaryIO) -> Any:
    file.seek(0, io.SEEK_END)
    total = file.tell()
    file.seek(0)

    def none(*_: Any) -> np.ndarray:
        raise ValueError("a header with a tensor")

    def load(dtype: np.dtype, key: str, size: int) -> np.ndarray:
        # Filled below: in the old format, the values come after the pickle that refers to them.
        if not 0 <= size * dtype.itemsize <= total:
            raise ValueError(f"storage {key} of {size} values is larger than the file")
        storages[key] = np.empty(size, dtype)
        return storages[key]

    storages: dict[str, np.ndarray] = {}
    if _Unpickler(file, none).load() != LEGACY_MAGIC:
        raise ValueError("it does not begin as one")
    for _ in range(NUM_LEGACY_HEADERS):
        _Unpickler(file, none).load()
    content = _Unpickler(file, load).load()
    for key in _Unpickler(file, none).load():
        size = int.from_bytes(file.read(8), "little")
        if size != len(storages[key]):
            raise ValueError(f"storage {key} has {size} values instead of {len(storages[key])}")
        values = np.frombuffer(file.read(storages[key].nbytes), storages[key].dtype)
        if len(values) != size:
            raise ValueError("it ends too early")
        storages[key][:] = values
    return content


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Returns a tensor as a view of its storage. Strides count values, not bytes."""
    if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ValueError(f"a tensor with shape {shape} and strides {strides}")
    end = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and end >= len(storage):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage")
    bytes_ = tuple(storage.itemsize * stride for stride in strides)
    return np.ndarray(shape, storage.dtype, storage, storage.itemsize * offset, bytes_)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


class _Unpickler(restricted_pickle.Unpickler):
    """Unpickles containers, numbers and tensors.

    Args:
        file: a file, positioned at the start of the pickle.
        load: a function (dtype, key, size) -> the storage, a flat array.
    """

    allowed = {
        **{("torch", name): np.dtype(kind) for name, kind in STORAGES.items()},
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }

    def __init__(self, file: BinaryIO, load: Callable[[np.dtype, str, int], np.ndarray]):
        super().__init__(file)
        self._load = load
        self._storages: dict[str, np.ndarray] = {}

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise ValueError(f"it refers to {pid!r}")
        if key not in self._storages:
            self._storages[key] = self._load(dtype, key, size)
        return self._storages[key]
