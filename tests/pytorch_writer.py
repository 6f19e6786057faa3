"""Writes state dicts as `torch.save` does, in its zip format and the older one, without PyTorch."""

import pickle
import struct
import zipfile

import numpy as np

STORAGE_NAMES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def save(path, state, legacy=False):
    """Writes a dictionary of names and NumPy arrays, integers or such dictionaries."""
    storages = {}
    extra = _NONE if legacy else b""

    def write(value):
        if isinstance(value, dict):
            return b"}(" + b"".join(_text(k) + write(v) for k, v in value.items()) + b"u"
        if isinstance(value, int):
            return _int(value)
        key = str(len(storages))
        storages[key] = np.ascontiguousarray(value)
        return _tensor(key, storages[key], extra)

    content = write(state)
    if legacy:
        headers = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        with open(path, "wb") as file:
            file.write(b"".join(pickle.dumps(header, protocol=2) for header in headers))
            file.write(content.join([b"\x80\x02", b"."]))
            file.write(pickle.dumps(list(storages), protocol=2))
            for array in storages.values():
                file.write(struct.pack("<q", array.size) + array.tobytes())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content.join([b"\x80\x02", b"."]))
            archive.writestr("archive/byteorder", "little")
            for key, array in storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())


_NONE = b"N"


def _text(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _int(value):
    return b"J" + struct.pack("<i", value)


def _tuple(*items):
    return b"(" + b"".join(items) + b"t"


def _tensor(key, array, extra):
    kind = b"ctorch\n%s\n" % STORAGE_NAMES[array.dtype.name].encode()
    storage = _tuple(_text("storage"), kind, _text(key), _text("cpu"), _int(array.size), extra)
    shape = _tuple(*map(_int, array.shape))
    strides = _tuple(*(_int(stride // array.itemsize) for stride in array.strides))
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = _tuple(storage + b"Q", _int(0), shape, strides, b"\x89", hooks)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
