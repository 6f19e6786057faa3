"""Reads the four IDX files of MNIST and similar data sets, compressed with gzip or not.

The format (LeCun, Cortes and Burges): a header of big-endian 32-bit numbers (a magic number, 2051
for images and 2049 for labels; the count; for images, height and width), then one byte per value.
"""

import contextlib
import errno
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lfbm_jax.data import tfds
from lfbm_jax.errors import UserError
from lfbm_jax.files import web_page
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

SPLITS = {"train": "train", "test": "t10k"}  # split -> the prefix of its file names
MAGIC = {"images": 2051, "labels": 2049}
DIMENSIONS = {"images": 3, "labels": 1}


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the IDX files in `data.dir`; if that is empty, of TFDS's `data.name`.

    Raises:
        UserError: a file is missing, truncated or not an IDX file, or the images do not suit the
            config (see `resize.Fit`).
    """
    if not data.dir:
        return tfds.prepare(data)
    files = _find(data)
    return cache.fill(data, files.values(), read=lambda: _read(data, files))


def _find(data: Any) -> dict[tuple[str, str], Path]:
    """Finds the file for each pair (split, "images" or "labels")."""
    folder = cache.folder(data.dir)
    if not folder.is_dir():
        raise UserError(f"data.dir={data.dir!r} is not a folder: name the one with the IDX files")
    found, missing = {}, []
    for split, prefix in SPLITS.items():
        for kind, dimensions in DIMENSIONS.items():
            stems = [f"{prefix}-{kind}{mark}idx{dimensions}-ubyte" for mark in "-."]
            names = [stem + suffix for stem in stems for suffix in ("", ".gz")]
            present = [folder / name for name in names if (folder / name).is_file()]
            if present:
                found[split, kind] = present[0]
            else:
                missing.append(f"{stems[0]}[.gz]")
    if missing:
        raise UserError(f"data.dir={data.dir!r} lacks {', '.join(missing)}: place them there")
    return found


def _read(data: Any, files: dict[tuple[str, str], Path]) -> cache.Reading:
    fit = Fit.of(data)
    labels = {split: list(_labels(files[split, "labels"])) for split in SPLITS}

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for split in SPLITS:
            path = files[split, "images"]
            for index, image in enumerate(_images(path, len(labels[split]))):
                fitted = fit(Image.fromarray(image), f"image {index} of {path}")
                yield (split, labels[split][index]), fitted

    return cache.Reading(examples(), cache.by_split, sum(map(len, labels.values())),
                         fit.notes)


def _labels(path: Path) -> bytes:
    with _opened(path) as file:
        (count,) = _dimensions(file, path, "labels")
        labels = _take(file, path, count)
        _expect_end(file, path)
    return labels


def _images(path: Path, count: int) -> Iterator[np.ndarray]:
    """Yields images, uint8 [height, width], one by one, so the file need not fit in memory."""
    with _opened(path) as file:
        images, height, width = _dimensions(file, path, "images")
        if images != count:
            raise UserError(f"{path} has {images} images, but there are {count} labels: fetch both"
                            " files again")
        for _ in range(images):
            pixels = _take(file, path, height * width)
            yield np.frombuffer(pixels, np.uint8).reshape(height, width)
        _expect_end(file, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Opens a file for reading its decompressed content; read failures become a UserError."""
    try:
        if web_page.is_web_page(path):
            raise UserError(f"{path} is a web page, not an IDX file: fetch it again")
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:
            raise UserError(f"{path} cannot be read ({error.strerror}), though the file itself may"
                            " be intact; run the same command again") from error
        raise UserError(f"{path} is truncated or cannot be read ({error}): fetch it again"
                        ) from error


def _dimensions(file: io.BufferedIOBase, path: Path, kind: str) -> tuple[int, ...]:
    magic, *dimensions = struct.unpack(
        f">{1 + DIMENSIONS[kind]}I", _take(file, path, 4 * (1 + DIMENSIONS[kind]))
    )
    if magic != MAGIC[kind]:
        raise UserError(
            f"{path} is not an IDX file of {kind}: it begins with {magic}, not {MAGIC[kind]}"
        )
    return tuple(dimensions)


def _take(file: io.BufferedIOBase, path: Path, count: int) -> bytes:
    taken = file.read(count)
    if len(taken) != count:
        raise UserError(f"{path} is truncated: fetch it again")
    return taken


def _expect_end(file: io.BufferedIOBase, path: Path) -> None:
    """Raises a UserError if bytes follow. Reading to the end also makes gzip check its checksum."""
    if file.read(1):
        raise UserError(f"{path} is longer than its header says: fetch it again")
