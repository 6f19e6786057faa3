"""Reads CIFAR-10 in its authors' format for Python, which torchvision downloads.

The folder `cifar-10-batches-py` holds five training batches and one test batch of 10,000 images. A
batch is a pickle from Python 2: a dictionary with "data", uint8 [N, 3072], each row the red, green
and blue plane of one image, and "labels", N numbers from 0 to 9.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.files import numpy_pickle, originals
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

FOLDER = "cifar-10-batches-py"
# As published in `datasets/cifar.py` of torchvision.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHAPE = (3, 32, 32)


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the batches; `data.dir` is their folder or its parent folder.

    Raises:
        UserError: files are missing or are not the originals (all are named), or the images do not
            suit the config (see `resize.Fit`).
    """
    if not data.dir:
        raise UserError(f"data.dir is empty: name the folder {FOLDER}, or its parent folder, with"
                        " --config.data.dir=FOLDER")
    folder = cache.folder(data.dir)
    if (folder / FOLDER).is_dir():
        folder /= FOLDER
    originals.require(folder, MD5, f"data.dir={data.dir!r}", f"name {FOLDER}, which"
                      " cifar-10-python.tar.gz unpacks to, or its parent folder")
    return cache.fill(data, [folder / name for name in MD5], lambda: _read(data, folder))


def _read(data: Any, folder: Path) -> cache.Reading:
    fit = Fit.of(data)
    originals.check(folder, MD5, "fetch cifar-10-python.tar.gz again and unpack it; for images of"
                                 " your own use data.source=npz or image_folder")

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for name in MD5:
            split = "test" if name == "test_batch" else "train"
            batch = numpy_pickle.read(folder / name)
            images = batch[b"data"].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
            for index, (image, label) in enumerate(zip(images, batch[b"labels"], strict=True)):
                yield (split, label), fit(Image.fromarray(image), f"image {index} of {name}")

    return cache.Reading(examples(), lambda keys: cache.by_split(keys, CLASSES), None, fit.notes)
