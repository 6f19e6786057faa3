"""Extracts features of images by a network and summarises them for distances."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from lfbm_jax.devices import sharding
from lfbm_jax.files import atomic, terminal
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import to_uint8, to_unit_range
from lfbm_jax.metrics.frechet import Gaussian, Moments
from lfbm_jax.model import Array

CHUNK = 1000  # images handled at a time
KEPT = 10_000  # feature vectors kept for the kernel distance


class Extractor:
    """Turns images into feature vectors, on all devices.

    Args:
        function: (parameters, x [B, H, W, C] in [-1, 1]) -> [B, D].
        parameters: the parameters of the function.
        size: D.
        batch_size: images per call.
    """

    def __init__(
        self,
        function: Callable[[Any, Array], jax.Array],
        parameters: Any,
        size: int,
        batch_size: int,
    ):
        self.size = size
        self._batch_size = batch_size
        self._parameters = sharding.replicate(parameters)
        self._function = sharding.on_every_device(
            lambda parameters, images: function(parameters, to_unit_range(images)),
            in_axes=(None, 0),
        )

    def __call__(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the feature vectors [B, D] of images [N, H, W, C], batch by batch.

        Images are uint8, or floats in [-1, 1], which are rounded to 256 levels.

        Raises:
            FloatingPointError: an image is not finite.
            ValueError: an image is not in [-1, 1].
        """
        if images.dtype != np.uint8:
            if not np.isfinite(images).all():
                raise FloatingPointError("images are not finite, so they have no features")
            if np.abs(images).max() > 1:
                raise ValueError(f"images range from {images.min()} to {images.max()}: not [-1, 1]")
            images = to_uint8(images)
        return sharding.map_over_examples(
            self._function, self._parameters, images, self._batch_size
        )


class Summary(NamedTuple):
    """A summary of the features of a set of images.

    Attributes:
        gaussian: mean and covariance of the features.
        features: features of images spread over the set, [K, D] float32; K = 0 if unknown.
        num_images: the number of images; 0 if unknown.
    """

    gaussian: Gaussian
    features: np.ndarray
    num_images: int

    @classmethod
    def of(cls, extractor: Extractor, pieces: Iterable[np.ndarray], total: int) -> "Summary":
        """Summarises `total` images, given in pieces [N, H, W, C]."""
        moments, kept, seen = Moments(extractor.size), [], 0
        every = -(-total // KEPT)
        with terminal.bar(total=total, desc="features", unit="image", delay=3, leave=False) as bar:
            for piece in pieces:
                for features in extractor(piece):
                    moments.add(features)
                    kept.append(features[-seen % every :: every])
                    seen += len(features)
                    bar.update(len(features))
        return cls(moments.gaussian(), np.concatenate(kept).astype(np.float32), seen)

    @classmethod
    def of_array(cls, extractor: Extractor, images: np.ndarray) -> "Summary":
        """Summarises images [N, H, W, C], which may be memory-mapped, CHUNK of them at a time."""
        pieces = (images[rows] for rows in chunks(len(images), CHUNK))
        return cls.of(extractor, pieces, len(images))

    def save(self, path: pathlib.Path) -> None:
        """Writes an .npz file with `mu` and `sigma`, the names other programs use, and the rest."""
        with atomic.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                mu=self.gaussian.mean,
                sigma=self.gaussian.covariance,
                features=self.features,
                num_images=self.num_images,
            )

    @classmethod
    def load(cls, path: pathlib.Path) -> "Summary":
        """Reads an .npz file that has at least `mu` [D] and `sigma` [D, D].

        Raises:
            OSError, KeyError, ValueError: the file is missing, lacks an array, or has one that is
                not finite.
        """
        with np.load(path) as file:
            gaussian = Gaussian(
                np.asarray(file["mu"], np.float64), np.asarray(file["sigma"], np.float64)
            )
            none = np.zeros((0, gaussian.mean.size), np.float32)
            features = file.get("features", none)
            num_images = int(file.get("num_images", 0))
        for array in (*gaussian, features):
            if not np.isfinite(array).all():
                raise ValueError("not all finite")
        return cls(gaussian, features, num_images)
