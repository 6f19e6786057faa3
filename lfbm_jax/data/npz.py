"""Reads arrays of images, and of labels if there are any, from a NumPy file, `.npz`.

    images, labels                                          without splits, or with them
    train_images, train_labels, test_images, test_labels    (images_train and so on work too)

Images are uint8 [N, H, W, C], or [N, H, W] if grey; labels are whole numbers, [N] or [N, 1].
`data.image_field` and `data.label_field` replace the words `images` and `labels`: x and y select
x_train, y_train, x_test and y_test. The split `val`, `valid` or `validation` is held out if there
is no test split, and is left out if there is one. Each array must fit in memory.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.files.web_page import is_web_page
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

FIELDS = {"image_field": "images", "label_field": "labels"}
VALIDATION = ("validation", "valid", "val")
SPLITS = ("train", "test", *VALIDATION)
CHANNELS = (1, 3, 4)


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the file `data.dir`.

    Raises:
        UserError: there is no such file, or its arrays are not as described or do not suit the
            config (see `resize.Fit`). One line names all faults of the arrays.
    """
    path = cache.folder(data.dir)
    if not (data.dir and path.is_file()):
        raise UserError(f"data.dir={data.dir!r} is not a file: name an .npz file with"
                        " --config.data.dir=FILE")
    return cache.fill(data, [path], lambda: _read(data, path), settings=tuple(FIELDS))


def _read(data: Any, path: Path) -> cache.Reading:
    fit = Fit.of(data)
    image_word, label_word = (data[field] or usual for field, usual in FIELDS.items())
    with _explained(path), np.load(path) as file:
        images, labels = (_by_split(file.files, word) for word in (image_word, label_word))
        held_out = next((split for split in SPLITS[1:] if split in images), "")
        used = [split for split in ("train", held_out) if split in images]
        _check(data, path, file, images, labels, used)
    read = {names[split] for names in (images, labels) for split in used if split in names}

    def examples() -> Iterator[tuple[tuple[str, int | None], np.ndarray]]:
        for split in used:
            with _explained(path), np.load(path) as file:
                pixels = file[images[split]]
                known = file[labels[split]].reshape(-1).tolist() if labels else [None] * len(pixels)
            if pixels.shape[-1] == 1 and pixels.ndim == 4:
                pixels = pixels[..., 0]
            for index, (image, label) in enumerate(zip(pixels, known, strict=True)):
                fitted = fit(Image.fromarray(image), f"image {index} of {path}: {images[split]}")
                yield (split, label), fitted

    def notes() -> list[str]:
        left_out = [name for name in file.files if name not in read]
        return fit.notes() + ([f"left out: {', '.join(left_out)}"] if left_out else [])

    return cache.Reading(
        examples(), lambda keys: cache.by_split(keys, test_name=held_out or "test"), None, notes
    )


def _by_split(names: list[str], word: str) -> dict[str, str]:
    """Returns the name of each split's array; an array without a split is the training split."""
    found = {"train": word} if word in names else {}
    for split in SPLITS:
        for name in (f"{split}_{word}", f"{word}_{split}"):
            if name in names:
                found.setdefault(split, name)
    return found


def _check(
    data: Any,
    path: Path,
    file: Any,
    images: dict[str, str],
    labels: dict[str, str],
    used: list[str],
) -> None:
    """Raises a UserError that names every fault of the arrays that are used."""
    if "train" not in images:
        word = data.image_field or FIELDS["image_field"]
        raise UserError(
            f"{path} has no array {word} or train_{word}, only {', '.join(file.files) or 'none'}:"
            f" name the array of images with --config.data.image_field=NAME, without its split"
        )
    if data.label_field and not labels:
        raise UserError(f"data.label_field={data.label_field!r}: {path} has no such array, only"
                        f" {', '.join(file.files)}")
    wrong = []
    for split in used:
        pixels = file[images[split]]
        if pixels.dtype != np.uint8:
            wrong.append(f"{images[split]} is {pixels.dtype}, not uint8 from 0 to 255")
        elif not (pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[-1] in CHANNELS)):
            wrong.append(f"{images[split]} has the shape {pixels.shape}, not [N, H, W, C] with"
                         f" {', '.join(map(str, CHANNELS))} channels or [N, H, W]")
        if not labels:
            continue
        if split not in labels:
            wrong.append(f"{images[split]} has no labels, as others have")
            continue
        known = file[labels[split]]
        if known.dtype.kind not in "iub" or known.shape not in ((len(pixels),), (len(pixels), 1)):
            wrong.append(f"{labels[split]} is {known.dtype} of shape {known.shape}, not one"
                         f" whole number for each of the {len(pixels)} images")
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}: write the arrays again")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns the errors that NumPy raises for a file into a UserError."""
    try:
        if is_web_page(path):
            raise UserError(f"{path} is a web page, not the file itself: fetch it again")
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is truncated or not an .npz file: write it with numpy.savez,"
                            " or fetch it again")
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}), though the file itself"
                        " may be intact; run the same command again") from error
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or has arrays of objects ({error}): write it again with"
                        " numpy.savez") from error
