"""Selects the training and the held-out images of a data set, and the classes to leave out.

A cache holds the whole data set once, and rows are selected when images are read.
"""

from typing import Any

import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split, pooled


class Rows:
    """Some rows of an array, read only when they are indexed, so a memory map stays on disk.

    Args:
        array: [N, ...].
        rows: indices into its first axis, [n].
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self._array, self._rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype
        self.nbytes = len(rows) * array[:1].nbytes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._array[self._rows[index]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array[self._rows], dtype)


def check(data: Any) -> None:
    """Raises a UserError if a setting of `select` has an invalid value."""
    if data.num_train < 0:
        raise UserError(f"data.num_train={data.num_train}: must be at least 0")
    if not 0 <= data.pooled_train_share < 1:
        raise UserError(
            f"data.pooled_train_share={data.pooled_train_share}: use a share from 0 to below 1"
        )
    if data.pooled_seed < 0:
        raise UserError(f"data.pooled_seed={data.pooled_seed}: must be at least 0")


def select(cache: Cache, data: Any) -> Cache:
    """Returns the splits that a config's `data` section describes. No image is in two of them.

    Images with a label in `data.exclude_labels` are never trained on. Call the others normal.

    If `data.pooled_train_share` is 0, normal images keep the splits of the source, and `excluded`
    holds the excluded images of the test split. Otherwise, all images are pooled and the normal
    ones permuted: the given share of them, rounded down, is for training and the rest is the test
    split, and `excluded` holds every excluded image. The permutation depends on `data.pooled_seed`
    and the number of normal images alone.

    If `data.num_train` is not 0, only that many of the training images are used, spread evenly.

    Raises:
        UserError: labels are excluded that the images do not have, or a split would be empty.
    """
    labels = tuple(data.exclude_labels)
    if not (labels or data.pooled_train_share or data.num_train):
        return cache
    every = pooled(cache.directory)
    left_out = _are_of(every, labels)
    if data.pooled_train_share:
        normal = np.flatnonzero(~left_out)
        # NumPy guarantees that RandomState never changes, so a run can be scored years later.
        normal = np.random.RandomState(data.pooled_seed).permutation(normal)
        count = int(data.pooled_train_share * len(normal))
        train, test = np.sort(normal[:count]), np.sort(normal[count:])
        excluded = np.flatnonzero(left_out)
        if not (len(train) and len(test)):
            raise UserError(
                f"data.pooled_train_share={data.pooled_train_share} of {len(normal)} images leaves"
                " a split empty: change it"
            )
    else:
        held_out = np.arange(len(left_out)) >= len(cache.train.images)
        train = np.flatnonzero(~held_out & ~left_out)
        test = np.flatnonzero(held_out & ~left_out)
        excluded = np.flatnonzero(held_out & left_out)
        if not len(train):
            raise UserError("data.exclude_labels: no image is left to train on")
    if 0 < data.num_train < len(train):
        train = train[np.arange(data.num_train) * len(train) // data.num_train]
    share = data.pooled_train_share
    if share:
        test_name = f"pooled {100 * share:.4g}/{100 * (1 - share):.4g}"
    else:
        test_name = cache.held_out.name if cache.held_out else ""
    return Cache(
        _split(every, train, "train"),
        _split(every, test, test_name) if len(test) else None,
        cache.directory,
        _split(every, excluded, "excluded") if len(excluded) else None,
        _name(data),
    )


def setting(data: Any) -> dict[str, Any]:
    """What a report states about the selection; empty if the source's splits are used whole."""
    found = {}
    if data.exclude_labels:
        found["exclude_labels"] = tuple(data.exclude_labels)
    if data.pooled_train_share:
        found["pooled_train_share"] = data.pooled_train_share
        found["pooled_seed"] = data.pooled_seed
    if data.num_train:
        found["num_train"] = data.num_train
    return found


def _name(data: Any) -> str:
    parts = []
    if data.pooled_train_share:
        parts.append(f"-pooled-{data.pooled_train_share}-seed-{data.pooled_seed}")
    return "".join(parts + [f"-without-{label}" for label in sorted(data.exclude_labels)])


def _are_of(split: Split, labels: tuple) -> np.ndarray:
    """Whether each image has one of the labels, bool [N]."""
    if not labels:
        return np.zeros(len(split.images), bool)
    if split.labels is None:
        raise UserError(f"data.exclude_labels={labels}: the data has no labels")
    unknown = sorted(set(labels) - set(np.unique(split.labels).tolist()))
    if unknown:
        raise UserError(f"data.exclude_labels: the data has no label {unknown[0]}")
    return np.isin(split.labels, labels)


def _split(every: Split, rows: np.ndarray, name: str) -> Split:
    labels = None if every.labels is None else every.labels[rows]
    # See `Split`: rows are indexed as an array is.
    return Split(Rows(every.images, rows), labels, name)  # type: ignore[arg-type]
