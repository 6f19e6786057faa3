"""Frechet and kernel inception distance of images to the training images (Table 2).

A figure is called `fid` only if it is comparable with the paper's: 50,000 images against all
training images, by the FID network. Its value depends on all three. With fewer images
than features (2,048) the covariance is singular, and fewer images give a larger expected distance.
The name of any other figure says what differs, such as `fid_of_300_images`.
"""

import errno
import pathlib
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from lfbm_jax.devices import distributed
from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, blaming_cache_dir, folder
from lfbm_jax.metrics import inception_weights
from lfbm_jax.metrics.features import Extractor, Summary
from lfbm_jax.metrics.frechet import (
    KERNEL_SUBSET_SIZE,
    KERNEL_SUBSETS,
    frechet_distance,
    kernel_distance,
)
from lfbm_jax.metrics.inception import FEATURES

NUM_IMAGES = 50_000  # of the paper's figures
FORMAT = 2  # Increase it when the statistics of the same images change: old files stay, unused.


def check(config: ml_collections.ConfigDict, num_images: int) -> None:
    """Raises a UserError if FID of this many images is requested but cannot be measured."""
    if config.metrics.inception_weights:
        inception_weights.locate(config)
        if config.metrics.fid_statistics:
            _load(config.metrics.fid_statistics)
        if num_images < 2:
            raise UserError(f"FID of {num_images} images: a covariance needs at least two")


def training_statistics(config: ml_collections.ConfigDict, data: Cache) -> pathlib.Path:
    """The path of the .npz file with the statistics of the training images, made if it is missing.

    The file is in the cache of the data set and holds `mu` and `sigma` as in pytorch-fid (see
    `Summary`).

    Raises:
        UserError: `metrics.inception_weights` is empty or not a usable file.
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
    """Distances of images to the training images, or to `metrics.fid_statistics` if it is set.

    Args:
        config: the config of the run.
        data: its data set.
        images: pieces [N, H, W, C] of the images, uint8 or in [-1, 1].
        num_images: the number of images.

    Returns:
        Figures `fid`, `kid` and `kid_stddev` under names that say what was measured (see
        `names_end`), and the setting in which they were measured. KID and its deviation over
        subsets are left out if the statistics hold no features, and the deviation also if there
        are no two disjoint subsets. Without `metrics.inception_weights` both are empty, and no
        image is read.
    """
    if not config.metrics.inception_weights:
        return {}, {}
    weights = inception_weights.locate(config)
    extractor = inception_weights.load(weights)
    given = config.metrics.fid_statistics
    path = given or _statistics_path(config, data, weights)
    if not given and _is_missing(path):
        _summarize_training(config, data, extractor, path)
    real = _load(path)
    found = Summary.of(extractor, images, num_images)
    figures = {"fid": frechet_distance(found.gaussian, real.gaussian)}
    setting = {
        "fid_network": f"Inception-v3, {weights.path.name}, SHA-256 {weights.sha256[:8]}",
        "fid_num_images": found.num_images,
        "fid_reference": _reference(config, data, real),
        "fid_range": "256 levels, seen as [-1, 1] at 299 x 299",
    }
    if len(real.features):
        fewest = min(len(found.features), len(real.features))
        size = min(KERNEL_SUBSET_SIZE, fewest)
        figures["kid"], deviation = kernel_distance(found.features, real.features, size=size)
        if fewest >= 2 * size:
            figures["kid_stddev"] = deviation
        setting["kid_subsets"] = (
            f"{KERNEL_SUBSETS} of {size} of {len(found.features)} images, and of"
            f" {len(real.features)} of the reference"
        )
    end = names_end(config, data, found.num_images, weights)
    return {name + end: value for name, value in figures.items()}, setting


def names_end(
    config: ml_collections.ConfigDict,
    data: Cache,
    num_images: int,
    weights: inception_weights.Weights,
) -> str:
    """The suffix of a figure's name after `fid` or `kid`; "" if comparable with the paper's."""
    end = "" if num_images == NUM_IMAGES else f"_of_{num_images}_images"
    if config.metrics.fid_statistics:
        end += "_to_given_statistics"
    else:
        count = len(data.train.images)
        if count < FEATURES or _left_out(config, data):
            end += f"_to_{count}_training_images"
    return end if weights.genuine else f"{end}_with_other_weights"


def _reference(config: ml_collections.ConfigDict, data: Cache, real: Summary) -> str:
    """Says which images the reference statistics describe."""
    if config.metrics.fid_statistics:
        count = f"{real.num_images} images" if real.num_images else "number of images not known"
        return f"{config.metrics.fid_statistics}: {count}, data and split not known"
    left_out = _left_out(config, data)
    return f"train split, {real.num_images} images" + (f", {left_out}" if left_out else " (all)")


def _left_out(config: ml_collections.ConfigDict, data: Cache) -> str:
    """Describes the training images that the statistics leave out; "" if there are none."""
    labels, share = sorted(config.data.exclude_labels), config.data.pooled_train_share
    parts = [f"without the classes {', '.join(map(str, labels))}"] if labels else []
    if share:
        parts.append(f"{share} of the pooled images, seed {config.data.pooled_seed}")
    if len(data.train.images) == config.data.num_train:
        parts.append(f"of the {config.data.num_train} that data.num_train takes")
    return ", ".join(parts)


def _statistics_path(
    config: ml_collections.ConfigDict, data: Cache, weights: inception_weights.Weights
) -> pathlib.Path:
    # The network's products are float32 under every `precision`, so the name leaves it out.
    kind = f"{weights.sha256[:16]}-{jnp.result_type(float).name}"
    name = f"fid_statistics-{FORMAT}-{kind}-{len(data.train.images)}{data.selection}.npz"
    return data.directory / name


def _is_missing(path: pathlib.Path) -> bool:
    """Whether any process lacks the file. Then all processes compute it together."""
    return bool(distributed.largest(not path.exists()))


def _summarize_training(
    config: ml_collections.ConfigDict, data: Cache, extractor: Extractor, path: pathlib.Path
) -> None:
    summary = Summary.of_array(extractor, data.train.images)
    with blaming_cache_dir(data.directory):
        summary.save(path)


def _load(path: str | pathlib.Path) -> Summary:
    try:
        summary = Summary.load(folder(str(path)))
        size = summary.gaussian.mean.shape, summary.gaussian.covariance.shape
        if size != ((FEATURES,), (FEATURES, FEATURES)):
            raise ValueError(f"they have shapes {size}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno == errno.EIO:
            raise UserError(
                f"statistics {path} cannot be read ({error.strerror}), though the file itself may"
                " be intact; run the same command again"
            ) from error
        raise UserError(
            f"statistics {path}: an .npz file with mu [{FEATURES}] and sigma"
            f" [{FEATURES}, {FEATURES}], all finite, is needed ({error})"
        ) from error
    return summary
