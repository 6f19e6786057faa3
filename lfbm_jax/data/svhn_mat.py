"""Reads SVHN's cropped digits in its authors' MATLAB files, which torchvision downloads.

`train_32x32.mat` and `test_32x32.mat` hold X, uint8 [32, 32, 3, N], and y, [N, 1], the digits 1 to
9, and 10 for the digit 0. `extra_32x32.mat` is not part of the paper's data and is left out.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import io as matlab

from lfbm_jax.errors import UserError
from lfbm_jax.files import originals
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

SPLITS = {"train_32x32.mat": "train", "test_32x32.mat": "test"}
EXTRA = "extra_32x32.mat"
# As published in `datasets/svhn.py` of torchvision.
MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the MATLAB files in `data.dir`; the labels are the digits.

    Raises:
        UserError: files are missing or are not the originals (all are named), or the images do not
            suit the config (see `resize.Fit`).
    """
    if not data.dir:
        raise UserError(f"data.dir is empty: name the folder with {' and '.join(SPLITS)} with"
                        " --config.data.dir=FOLDER")
    folder = cache.folder(data.dir)
    originals.require(folder, SPLITS, f"data.dir={data.dir!r}",
                      "place the files there, or name the folder that has them")
    return cache.fill(data, [folder / name for name in SPLITS], lambda: _read(data, folder))


def _read(data: Any, folder: Path) -> cache.Reading:
    fit = Fit.of(data)
    originals.check(folder, MD5, "fetch them again; for images of your own use data.source=npz or"
                                 " image_folder")

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for name, split in SPLITS.items():
            images, digits = _arrays(folder / name)
            for index, (image, digit) in enumerate(zip(images, digits, strict=True)):
                fitted = fit(Image.fromarray(image), f"image {index} of {name}")
                yield (split, int(digit)), fitted

    def notes() -> list[str]:
        left_out = [f"left out: {EXTRA}"] if (folder / EXTRA).exists() else []
        return fit.notes() + left_out

    classes = [str(digit) for digit in range(10)]
    return cache.Reading(examples(), lambda keys: cache.by_split(keys, classes), None, notes)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images [N, 32, 32, 3] and digits [N]."""
    try:
        content = matlab.loadmat(path, variable_names=("X", "y"))
    except (OSError, ValueError, zlib.error, matlab.matlab.MatReadError) as error:
        raise UserError(f"{path} cannot be read ({error}); try again") from error
    return np.ascontiguousarray(np.moveaxis(content["X"], -1, 0)), content["y"][:, 0] % 10
