"""Frechet and kernel inception distance of images to the training images (Table 2)."""

import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import ml_collections
import numpy as np

from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError
from lfbm_jax.images.batches import rows_without
from lfbm_jax.images.cache import Cache, blaming_cache_dir, folder
from lfbm_jax.metrics import inception_weights
from lfbm_jax.metrics.features import Extractor, Summary, chunks
from lfbm_jax.metrics.frechet import frechet_distance, kernel_distance
from lfbm_jax.metrics.inception import FEATURES


def check(config: ml_collections.ConfigDict, num_images: int) -> None:
    """Raises UserError where FID of so many images is asked for and could not be measured."""
    if config.metrics.inception_weights:
        inception_weights.locate(config)
        if config.metrics.fid_statistics:
            _load(config.metrics.fid_statistics)
        if num_images < 2:
            raise UserError(f"FID of {num_images} images: a covariance takes two or more")


def training_statistics(config: ml_collections.ConfigDict, data: Cache) -> pathlib.Path:
    """The .npz file with what the network sees in the training images, made if it is not there.

    It lies in the data set's cache and holds `mu` and `sigma` as pytorch-fid does (see `Summary`).

    Raises:
        UserError: `metrics.inception_weights` is empty or will not do.
    """
    if not config.metrics.inception_weights:
        raise UserError(
            f"metrics.inception_weights='': give the path of {inception_weights.FILE}, or"
            f" '{inception_weights.DOWNLOAD}'"
        )
    weights = inception_weights.locate(config)
    path = _statistics_path(config, data, weights)
    if _is_missing(path):
        _summarize_training(config, data, inception_weights.load(weights), path)
    return path


def measure(
    config: ml_collections.ConfigDict, data: Cache, images: Iterable[np.ndarray], num_images: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Distances of images to the training images, or to `metrics.fid_statistics` where given.

    Args:
        config: of the run, with `metrics.inception_weights`.
        data: its data set.
        images: chunks [N, H, W, C], uint8 or in [-1, 1].
        num_images: how many there are; the distance of few images is larger in the mean.

    Returns:
        Figures `fid`, `kid` and `kid_stddev` (over subsets; without them where the statistics hold
        no features), which are named otherwise where the weights are not the FID network's; and
        the setting they were measured in.
    """
    weights = inception_weights.locate(config)
    extractor = inception_weights.load(weights)
    path = config.metrics.fid_statistics or _statistics_path(config, data, weights)
    if not config.metrics.fid_statistics and _is_missing(path):
        _summarize_training(config, data, extractor, path)
    real = _load(path)
    found = Summary.of(extractor, images, num_images)
    figures = {"fid": frechet_distance(found.gaussian, real.gaussian)}
    if len(real.features):
        figures["kid"], figures["kid_stddev"] = kernel_distance(found.features, real.features)
    if not weights.genuine:
        figures = {f"{name}_with_other_weights": value for name, value in figures.items()}
    setting = {
        "fid_network": f"Inception-v3, {weights.path.name}, SHA-256 {weights.sha256[:8]}",
        "fid_num_images": found.num_images,
        "fid_num_training_images": real.num_images or "not known",
        "fid_range": "256 levels, seen as [-1, 1] at 299 x 299",
    }
    return figures, setting


def _statistics_path(
    config: ml_collections.ConfigDict, data: Cache, weights: inception_weights.Weights
) -> pathlib.Path:
    without = "".join(f"-without-{label}" for label in sorted(config.data.exclude_labels))
    name = f"fid_statistics-{weights.sha256[:8]}-{len(data.train.images)}{without}.npz"
    return data.directory / name


def _is_missing(path: pathlib.Path) -> bool:
    """Whether one of the processes lacks the file: then all make it, each computing its share."""
    return bool(distributed.largest(not path.exists()))


def _summarize_training(
    config: ml_collections.ConfigDict, data: Cache, extractor: Extractor, path: pathlib.Path
) -> None:
    images, labels = data.train
    rows = rows_without(labels, len(images), config.data.exclude_labels)
    summary = Summary.of(extractor, chunks(images, rows), len(rows))
    with blaming_cache_dir(data.directory):
        summary.save(path)


def _load(path: str | pathlib.Path) -> Summary:
    try:
        summary = Summary.load(folder(str(path)))
        size = summary.gaussian.mean.shape, summary.gaussian.covariance.shape
        if size != ((FEATURES,), (FEATURES, FEATURES)):
            raise ValueError(f"they have shapes {size}")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"statistics {path}: an .npz file with mu [{FEATURES}] and sigma"
            f" [{FEATURES}, {FEATURES}], all finite, is needed ({error})"
        ) from error
    return summary
