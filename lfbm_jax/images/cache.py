"""The uint8 cache, which each data source is converted to once and which is then memory-mapped.

A cache is a folder `<name>-<fingerprint>` in `data.cache_dir` that holds

    images.npy     uint8 [N, H, W, C], the training images first, then the test images
    labels.npy     int32 [N], if the source has labels
    manifest.json  what it was made from and how, counts, file sizes, class names

It is written in one pass, image by image, and appears complete or not at all (`files/atomic`).
Reading it needs nothing but NumPy.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic, terminal

# Increase it when the meaning of the content changes: caches of older formats stay, unused.
FORMAT = 2
SINCE_FORMAT = "images are now reduced by a bilinear filter and turned upright"
HOLD_OUT_SEED = 0  # Fixed, so that every run on one data set has the same test images.
COPY_ROWS = 1024  # images copied at a time when they have to be reordered


class Split(NamedTuple):
    """The images of one split and their labels.

    Attributes:
        images: uint8 [N, H, W, C], memory-mapped, or `selection.Rows` of such an array, which are
            indexed in the same way.
        labels: int32 [N], or None if they are not known.
        name: what reports call the split.
    """

    images: np.ndarray
    labels: np.ndarray | None
    name: str = ""

    def rows(self, count: int) -> np.ndarray:
        """Indices [count] of images spread evenly over the split; all of them if count is 0.

        Folders are read class by class, so the first images would all belong to one class.
        """
        total = len(self.images)
        count = count if 0 < count < total else total
        return np.arange(count) * total // count

    def spread(self, count: int) -> np.ndarray:
        """The images [count, H, W, C] with the indices of `rows`."""
        whole = not 0 < count < len(self.images)
        return np.asarray(self.images) if whole else self.images[self.rows(count)]


class Cache(NamedTuple):
    """A data set. No image is in two of its splits.

    Attributes:
        train: what models learn from.
        held_out: other images of the same classes; None if there are none.
        directory: the folder of the cache.
        excluded: images of the classes that are in neither split, or None (see `selection`).
        selection: how the splits were chosen, for use in file names; "" if they are the
            splits of the source.
    """

    train: Split
    held_out: Split | None
    directory: Path
    excluded: Split | None = None
    selection: str = ""

    @property
    def evaluated(self) -> Split:
        """What models are evaluated on: the held-out split, or the training split without one."""
        return self.train if self.held_out is None else self.held_out


class Layout(NamedTuple):
    """The examples of each split, in order, by their position in the order of reading."""

    train: list[int]
    test: list[int]
    labels: list[int] | None  # of every example read
    classes: list[str] | None  # the names of labels 0, 1, ...
    test_name: str = "test"  # what the source calls the split that `test` lists


class Reading(NamedTuple):
    """A source, opened to be read once.

    Attributes:
        examples: yields (key, uint8 [H, W, C]).
        arrange: turns the list of all keys, in the order of reading, into a Layout.
        total: the number of examples, if it is known beforehand, for the progress bar.
        notes: called at the end; returns what the user should know, such as files left out.
    """

    examples: Iterable[tuple[Any, np.ndarray]]
    arrange: Callable[[list[Any]], Layout]
    total: int | None
    notes: Callable[[], list[str]] = list


def fill(
    data: Any, files: Iterable[Path], read: Callable[[], Reading], settings: tuple[str, ...] = ()
) -> Cache:
    """Returns the cache of a data source, reading the source only if no cache exists yet.

    Prints one line if a cache of an older format exists, which is not used, and one line with the
    notes of the reading.

    Args:
        data: the config's `data` section. If the source has no test split, `test_fraction` of
            its examples become the test split, by a fixed permutation.
        files: the files of the source. If their sizes or times change, a new cache is made.
        read: opens the source; called only if the cache has to be made.
        settings: names of the settings in the section that only some sources read. Other values of
            these make another cache.

    Raises:
        UserError: `data.cache_dir` is inside `data.dir`, cannot be written, or its disk is full;
            there are no examples; `data.test_fraction` leaves a split empty.
    """
    root = cache_root(data)
    fingerprint = _fingerprint(data, files) | {name: data[name] for name in settings}
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^\w.-]", "_", data.name or data.source)
    directory = root / f"{name}-{digest[:12]}"
    cache = load(directory)
    if cache is None:
        _tell_outdated(root, name, fingerprint)
        with blaming_cache_dir(root):
            root.mkdir(parents=True, exist_ok=True)
            with atomic.scratch(directory) as scratch:
                reading = read()
                _write(scratch, data, fingerprint, reading)
                atomic.publish(scratch, directory, lambda path: load(path) is not None)
        if notes := reading.notes():
            print(f"{data.name or data.source}: {'; '.join(notes)}", flush=True)
        cache = _mapped(directory, _manifest(directory))
    return cache


def load(directory: Path) -> Cache | None:
    """Maps a cache into memory; None if it is missing or its files have the wrong sizes."""
    try:
        manifest = _manifest(directory)
        sizes = {name: (directory / name).stat().st_size for name in manifest["bytes"]}
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return _mapped(directory, manifest) if sizes == manifest["bytes"] else None


def _mapped(directory: Path, manifest: dict[str, Any]) -> Cache:
    """The cache in a folder whose files have the right sizes."""
    every, count = pooled(directory), manifest["train"]
    train, held_out = (
        Split(every.images[rows], None if every.labels is None else every.labels[rows], name)
        for rows, name in (
            (slice(0, count), "train"),
            (slice(count, None), manifest["test_name"]),
        )
    )
    return Cache(train, held_out if manifest["test"] else None, directory)


def pooled(directory: Path) -> Split:
    """All images of a cache: the training images of the source, then its test images."""
    labels = directory / "labels.npy"
    return Split(
        np.load(directory / "images.npy", mmap_mode="r"),
        np.load(labels) if labels.exists() else None,
    )


def by_split(
    keys: Sequence[tuple[str, int | None]],
    classes: list[str] | None = None,
    test_name: str = "test",
) -> Layout:
    """The layout of a source whose keys are (split, label).

    The splits are `train` and `test_name`, which is held out.
    """
    labels = [label for _, label in keys if label is not None]
    return Layout(
        train=[i for i, (split, _) in enumerate(keys) if split == "train"],
        test=[i for i, (split, _) in enumerate(keys) if split == test_name],
        labels=labels if len(labels) == len(keys) else None,
        classes=classes,
        test_name=test_name,
    )


def cache_root(data: Any) -> Path:
    """The folder of all caches; raises a UserError if it is inside `data.dir`."""
    root = (folder(data.cache_dir) if data.cache_dir else default_root()).resolve()
    if data.dir and root.is_relative_to(folder(data.dir).resolve()):
        raise UserError(
            f"data.cache_dir={data.cache_dir!r} ({root}) is inside data.dir={data.dir!r}, where"
            " nothing is ever written: name another folder with --config.data.cache_dir=FOLDER"
        )
    return root


def default_root() -> Path:
    """The folder lfbm_jax in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lfbm_jax")


def folder(text: str) -> Path:
    """The absolute path of a folder named in a config; `~` is the home folder."""
    return Path(os.path.abspath(os.path.expanduser(text)))


@contextlib.contextmanager
def blaming_cache_dir(root: Path) -> Iterator[None]:
    """Turns the errors of a full disk or a read-only cache folder into a UserError."""
    remedy = "name another folder with --config.data.cache_dir=FOLDER"
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"data.cache_dir: the disk of {root} is full: make room or {remedy}"
                            ) from error
        # An error about any other file comes from the source being read.
        place = Path(str(error.filename or ""))
        if place.is_relative_to(root) or root.is_relative_to(place):
            raise UserError(f"data.cache_dir: cannot write to {root} ({error.strerror}): {remedy}"
                            ) from error
        raise


def _manifest(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))


def _tell_outdated(root: Path, name: str, fingerprint: dict[str, Any]) -> None:
    """Prints one line if there is a cache of an older format of the same files and settings.

    Settings that did not exist then are ignored.
    """
    for directory in sorted(root.glob(f"{name}-*")):
        try:
            old = _manifest(directory)["fingerprint"]
        except (OSError, ValueError, KeyError):
            continue
        number = old.pop("format", 0)
        if number < FORMAT and old.items() <= fingerprint.items():
            print(f"data cache {directory} has the older format {number} and is not used: preparing"
                  f" the data again, since {SINCE_FORMAT}; the old cache may be removed",
                  flush=True)


def _fingerprint(data: Any, files: Iterable[Path]) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    for path in files:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(
            errors="surrogateescape"))
        count += 1
    return {
        "format": FORMAT,
        "source": data.source,
        "name": data.name,
        "dir": str(folder(data.dir)) if data.dir else "",
        "files": {"count": count, "sha256": digest.hexdigest()},
        "image_size": data.image_size,
        "channels": data.channels,
        "crop": data.crop,
        "convert": data.convert,
        "background": data.background,
        "test_split": data.test_split,
        "test_fraction": data.test_fraction,
    }


def _write(directory: Path, data: Any, fingerprint: dict[str, Any], reading: Reading) -> None:
    shape = (data.image_size, data.image_size, data.channels)
    progress = terminal.bar(
        reading.examples,
        desc=f"preparing {data.name or data.source}",
        unit=" images",
        total=reading.total,
        disable=None,
        delay=2,
    )
    keys = []

    def images() -> Iterator[np.ndarray]:
        for key, image in progress:
            keys.append(key)
            yield image

    arrived = directory / "arrived.npy"
    _write_images(arrived, shape, images())
    layout = _hold_out(reading.arrange(keys), data.test_fraction)
    order = layout.train + layout.test
    if not layout.train:
        raise UserError(f"data.source={data.source!r} found no training images in"
                        f" data.dir={data.dir!r}")
    if order == list(range(len(keys))):
        arrived.rename(directory / "images.npy")
    else:
        _write_images(directory / "images.npy", shape, _rows(arrived, order))
        arrived.unlink()
    if layout.labels is not None:
        with _synced(directory / "labels.npy") as file:
            np.save(file, np.asarray(layout.labels, dtype=np.int32)[order])
    manifest = {
        "fingerprint": fingerprint,
        "train": len(layout.train),
        "test": len(layout.test),
        "test_name": layout.test_name,
        "image_shape": shape,
        "dtype": "uint8",
        "classes": layout.classes,
        "bytes": {path.name: path.stat().st_size for path in directory.glob("*.npy")},
    }
    with _synced(directory / "manifest.json") as file:
        file.write(json.dumps(manifest, indent=2).encode())


def _write_images(path: Path, shape: tuple[int, ...], images: Iterable[np.ndarray]) -> None:
    """Writes an `.npy` file image by image.

    NumPy reserves room in the header for a larger first axis, which is corrected at the end.
    """
    def write_header(count: int) -> None:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})

    with _synced(path) as file:
        write_header(0)
        count = 0
        for image in images:
            if image.dtype != np.uint8 or image.shape != shape:
                raise ValueError(f"a source gave {image.dtype} {image.shape}, not uint8 {shape}")
            file.write(image.tobytes())
            count += 1
        file.seek(0)
        write_header(count)


def _rows(path: Path, order: list[int]) -> Iterator[np.ndarray]:
    images = np.load(path, mmap_mode="r")
    for start in range(0, len(order), COPY_ROWS):
        yield from images[order[start : start + COPY_ROWS]]


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[Any]:
    """Opens a new file; flushes it to disk on closing, that is, before the folder is renamed."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _hold_out(layout: Layout, fraction: float) -> Layout:
    if layout.test or fraction == 0:
        return layout
    count = len(layout.train)
    held = round(count * fraction)
    if not 0 < held < count:
        raise UserError(
            f"data.test_fraction={fraction} of {count} images leaves a split empty: change it"
        )
    shuffled = np.random.default_rng(HOLD_OUT_SEED).permutation(layout.train)
    return layout._replace(
        train=sorted(shuffled[held:].tolist()),
        test=sorted(shuffled[:held].tolist()),
        test_name=f"{held} of {count} images, held out",
    )
