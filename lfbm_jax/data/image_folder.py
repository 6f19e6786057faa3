"""Folders and archives of JPEG and PNG images.

    <split>/<class>/*.jpg    or    <split>/*.jpg    with the splits train and test
    <class>/*.jpg            or    *.jpg

Folders above these are ignored, as are the splits val and validation. An archive is a .tar,
.tar.gz, .tar.xz or .zip with the same inside. Images are sorted by path, numbers in it by value;
a label is the place of the class's name among the sorted names.
"""

import gzip
import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

IMAGES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "test")
IGNORED = ("val", "validation")
TAR_OPENERS = {".tar": open, ".tar.gz": gzip.open, ".tar.xz": lzma.open}
ARCHIVES = (*TAR_OPENERS, ".zip")
# What Pillow raises on files that are no images, broken or truncated.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


def prepare(data: Any) -> cache.Cache:
    """The cache of the images in `data.dir`: a folder, an archive, or a folder with one archive.

    Without `data.crop` all images must be square and of one size.

    Raises:
        UserError: there are no images, one cannot be read or does not suit the config (see
            `resize.Fit`), or the folders are neither splits nor classes throughout.
    """
    place = _find(data)
    if place.is_file():
        return cache.fill(data, [place], read=lambda: _read(data, place, _in_archive(place), None))
    names = _names_in_folder(place)
    paths = [place / name for name in names]
    return cache.fill(
        data, paths, read=lambda: _read(data, place, _in_folder(place, names), len(names))
    )


def _find(data: Any) -> Path:
    """The folder or archive with the images."""
    if not data.dir:
        raise UserError("data.dir is empty: name a folder of images or an archive of them with"
                        " --config.data.dir=FOLDER")
    place = cache.folder(data.dir)
    if place.is_file() and _archive_kind(place):
        return place
    if not place.is_dir():
        raise UserError(f"data.dir={data.dir!r} is neither a folder nor an archive"
                        f" ({', '.join(ARCHIVES)})")
    if _names_in_folder(place):
        return place
    archives = [path for path in sorted(place.iterdir()) if path.is_file() and _archive_kind(path)]
    if len(archives) != 1:
        raise UserError(
            f"data.dir={data.dir!r} has no images ({', '.join(IMAGES)}) and {len(archives)}"
            " archives: name the folder or the one archive that has them"
        )
    return archives[0]


def _archive_kind(path: Path) -> str | None:
    return next((kind for kind in ARCHIVES if path.name.lower().endswith(kind)), None)


def _is_wanted(name: str) -> bool:
    """Whether a path relative to the source is an image of a split that is used."""
    *folders, file = PurePosixPath(name).parts
    hidden = file.startswith(".") or any(f.startswith((".", "__MACOSX")) for f in folders)
    ignored = any(folder in IGNORED for folder in folders[:2])
    return file.lower().endswith(IMAGES) and not hidden and not ignored


def _by_path(name: str) -> tuple[list[str | int], str]:
    """Sorts 2.jpg before 10.jpg."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _names_in_folder(folder: Path) -> list[str]:
    names = (
        Path(parent, file).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
    )
    return sorted(filter(_is_wanted, names), key=_by_path)


def _in_folder(folder: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            yield name, (folder / name).read_bytes()
        except OSError as error:
            raise UserError(f"{folder / name} cannot be read ({error.strerror})") from error


def _in_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    members = _in_zip if _archive_kind(archive) == ".zip" else _in_tar
    try:
        yield from members(archive)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError,
            zlib.error) as error:
        raise UserError(f"{archive} is truncated or no archive ({error}): fetch it again"
                        ) from error


def _in_zip(archive: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as file:
        for name in sorted(filter(_is_wanted, file.namelist()), key=_by_path):
            yield name, file.read(name)


def _in_tar(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Members in the archive's order: going back in a compressed file means reading it again."""
    with TAR_OPENERS[_archive_kind(archive)](archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as file:
            for member in file:
                if member.isfile() and _is_wanted(member.name):
                    yield member.name, file.extractfile(member).read()
        # tarfile takes a file that breaks off between members for complete; decompressing it to
        # its end finds out.
        while stream.read(2**20):
            pass


def _read(
    data: Any, place: Path, members: Iterator[tuple[str, bytes]], total: int | None
) -> cache.Reading:
    fit = Fit.of(data)

    def examples() -> Iterator[tuple[str, np.ndarray]]:
        first = None
        for name, content in members:
            where = f"{place}/{name}"
            image = _decode(content, where)
            first = first or (where, image.size)
            if not data.crop and image.size != first[1]:
                raise UserError(
                    f"{where} is {_size(image.size)}, but {first[0]} is {_size(first[1])}: make"
                    " them one size, or crop them, for example with --config.data.crop=center"
                )
            yield name, fit(image, where)

    return cache.Reading(examples(), lambda names: _arrange(names, place), total, fit.notes)


def _decode(content: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UNREADABLE as error:
        raise UserError(f"{where} is truncated or no image ({error}): replace or remove it"
                        ) from error
    return image


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} pixels high and {size[0]} wide"


def _arrange(names: list[str], place: Path) -> cache.Layout:
    """Splits, labels and order that the paths of all images say."""
    folders = _without_common([PurePosixPath(name).parts[:-1] for name in names])
    splits = ["train"] * len(names)
    if any(path[:1] == (split,) for path in folders for split in SPLITS):
        _require(names, place, [path[:1] in [(s,) for s in SPLITS] for path in folders],
                 "is in neither train nor test, as others are")
        splits = [path[0] for path in folders]
        folders = [path[1:] for path in folders]
    labels = classes = None
    if any(folders):
        _require(names, place, [bool(path) for path in folders],
                 "is in no folder of a class, as others are")
        classes = sorted({path[0] for path in folders})
        number = {name: label for label, name in enumerate(classes)}
        labels = [number[path[0]] for path in folders]
    order = sorted(range(len(names)), key=lambda i: _by_path(names[i]))
    train, test = ([i for i in order if splits[i] == split] for split in SPLITS)
    return cache.Layout(train, test, labels, classes)


def _without_common(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drops the folders that all paths begin with, up to the splits."""
    common = os.path.commonprefix(folders)  # noqa: RUF071 - of tuples, name by name
    depth = next((i for i, name in enumerate(common) if name in SPLITS), len(common))
    return [path[depth:] for path in folders]


def _require(names: list[str], place: Path, fine: list[bool], complaint: str) -> None:
    for name, ok in zip(names, fine, strict=True):
        if not ok:
            raise UserError(f"{place}/{name} {complaint}: move or remove it")
