"""Remembers which images a run learned from, so that a work directory keeps to them.

The folder of the images may be moved, and another machine may decode a JPEG a little differently,
so neither its path nor a checksum identifies them. Their number and the mean brightness of some do.
"""

import json
import pathlib

import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.images.cache import Split
from lfbm_jax.runs import workdir

FILE = "learned_from.json"
COMPARED = 64  # images, spread over the split
TOLERANCE = 1.0  # in the mean of an image, whose pixels are 0 to 255


def remember(train: Split, folder: pathlib.Path) -> None:
    """Writes a work directory's `learned_from.json`; if it exists, only checks it.

    Raises:
        UserError: the work directory's run learned from other images.
    """
    check(train, folder)
    if not (folder / FILE).exists():
        with workdir.blaming(folder):
            atomic.write_text(folder / FILE, json.dumps(_known(train)) + "\n")


def check(train: Split, folder: pathlib.Path) -> None:
    """Raises a UserError if the run learned from other images than these training images.

    A work directory of an earlier version does not say what it learned from, and passes.
    """
    path = folder / FILE
    if not path.exists():
        return
    now = _known(train)
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
        same_number = then["num_images"] == now["num_images"]
        same = same_number and np.allclose(then["means"], now["means"], rtol=0, atol=TOLERANCE)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): allow it") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error!r}): restore or remove it") from error
    if not same:
        raise UserError(
            f"--workdir={folder} learned from other images ({then['num_images']} there,"
            f" {now['num_images']} now): set data.dir to the folder that it learned from, or choose"
            " another --workdir"
        )


def _known(train: Split) -> dict[str, int | list[float]]:
    images = np.asarray(train.spread(COMPARED), np.float64)
    means = np.round(images.reshape(len(images), -1).mean(1), 2)
    return {"num_images": len(train.images), "means": means.tolist()}
