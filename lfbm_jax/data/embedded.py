"""Reads the handwritten digits that scikit-learn ships; nothing is downloaded.

The 1,797 scans of 8 x 8 pixels with 17 grey levels are part of the UCI data set "Optical
Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998). They come without a test split.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

LEVELS = 16  # The brightest of the grey levels 0 to 16.


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the digits, fitted to the config; UserError if `resize.Fit` refuses."""
    return cache.fill(data, files=(), read=lambda: _read(data))


def _read(data: Any) -> cache.Reading:
    fit = Fit.of(data)
    digits = load_digits()
    pixels = np.round(digits.images * (255 / LEVELS)).astype(np.uint8)
    classes = [str(name) for name in digits.target_names]

    def examples() -> Iterator[tuple[tuple[str, int], np.ndarray]]:
        for image, label in zip(pixels, digits.target, strict=True):
            fitted = fit(Image.fromarray(image), "an image of scikit-learn's digits")
            yield ("train", int(label)), fitted

    return cache.Reading(
        examples(), lambda keys: cache.by_split(keys, classes), len(pixels), fit.notes
    )
