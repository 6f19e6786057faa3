"""Measures how well the learned prior matches the aggregated posterior (section 3.4).

Latent vectors are inferred from images with the settings of training. They are draws from the
aggregated posterior (1/N) sum_i p(z|x_i), to which maximum likelihood fits the prior. For a prior
that is fitted after training, p(z|x) is the posterior of training, with N(0, I) as the prior.

Figures, with log-densities in nats:
    num_images, num_training_images: the numbers of test and training images.
    test_log_p_z: the mean log p(z) of latent vectors inferred from test images.
    gaussian_test_log_p_z: the same under a Gaussian with the mean and the full covariance of the
        latent vectors inferred from training images.
    sampled_log_p_z: the mean log p(z) of draws from the prior. Only a normalised prior has this and
        the two figures above.
    mmd: the squared maximum mean discrepancy between inferred and sampled vectors (see
        `squared_mmd`).
    mmd_standard_normal: the same between inferred vectors and as many draws from N(0, I).
    two_sample_accuracy: the accuracy of a classifier that tells inferred from sampled vectors (see
        `two_sample_accuracy`); near 0.5 for a good prior.
"""

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.chunks import chunks
from lfbm_jax.metrics.two_samples import (
    gaussian_log_density,
    squared_mmd,
    two_sample_accuracy,
)
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 2000, "batch_size": 100}  # num_images: of each split; 0: all
SMOKE = {"num_images": 0, "batch_size": 16}

# The two-sample test's classifier sets a tenth of half the vectors aside, two at least.
FEWEST = 11
MONITORED = 200


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if too few images are requested. `run` checks how many exist."""
    num_images = config.task.prior_fit.num_images
    if num_images:
        _check_enough(num_images, config.model.latent_dim)


def _check_enough(num_images: int, latent_dim: int) -> None:
    if num_images <= latent_dim:
        raise UserError(
            f"task.prior_fit.num_images: a covariance in {latent_dim} dimensions needs more than"
            f" {num_images} training images"
        )


def check_data(data: Cache, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if there are too few held-out images."""
    if data.held_out is None:
        raise UserError("task prior_fit needs a test split: set data.test_fraction")
    count = len(data.held_out.rows(config.task.prior_fit.num_images))
    if count < FEWEST:
        raise UserError(
            f"task prior_fit needs {FEWEST} held-out images, there are {count}: set"
            " data.test_fraction or task.prior_fit.num_images, or leave it out of tasks"
        )


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Compares the prior with a Gaussian, and inferred latent vectors with sampled ones.

    `task.prior_fit.num_images` images of each split are used (0: all).

    Raises:
        UserError: there are too few training images for a covariance.
    """
    held_out = data.held_out
    assert held_out is not None, "check_data refuses this"
    train = _inferred(trained, data.train, config, config.seed)
    test = _inferred(trained, held_out, config, config.seed + 1)
    _check_enough(*train.shape)
    writer.describe(split=held_out.name, inference=dict(config.inference))
    sampled = _sampled(trained, len(test), config)
    normal = np.random.default_rng(config.seed).standard_normal(test.shape)
    figures = {
        "num_images": len(test),
        "num_training_images": len(train),
        "mmd": squared_mmd(test, sampled.astype(np.float64)),
        "mmd_standard_normal": squared_mmd(test, normal),
        "two_sample_accuracy": two_sample_accuracy(test, sampled, config.seed),
    }
    if trained.prior_is_normalized:
        figures |= {
            "test_log_p_z": float(np.mean(trained.log_prior(test.astype(sampled.dtype)))),
            "gaussian_test_log_p_z": gaussian_log_density(test, fitted_to=train),
            "sampled_log_p_z": float(np.mean(trained.log_prior(sampled))),
        }
    return figures


def _inferred(
    trained: TrainedModel, split: Split, config: ml_collections.ConfigDict, seed: int
) -> np.ndarray:
    """Infers the latent vectors of images spread over a split, float64 [N, d]."""
    settings = config.task.prior_fit
    rows = split.rows(settings.num_images)
    z = [
        trained.infer(
            split.images[rows[chunk]],
            seed,
            settings.batch_size,
            training_settings=True,
            first=chunk.start,
        ).z
        for chunk in chunks(len(rows), settings.batch_size, "inferring")
    ]
    return np.concatenate(z).astype(np.float64)


def _sampled(trained: TrainedModel, num: int, config: ml_collections.ConfigDict) -> np.ndarray:
    """Draws latent vectors from the prior, [num, d]."""
    batch_size = config.task.prior_fit.batch_size
    z = [
        trained.sample(chunk.stop - chunk.start, config.seed, batch_size, chunk.start).z
        for chunk in chunks(num, batch_size, "sampling")
    ]
    return np.concatenate(z)


def monitor(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict
) -> dict[str, float]:
    """Returns the cheap figures, logged every `train.sample_every` steps.

    These are `mmd` and, if the prior is normalised, `inferred_log_p_z` and `sampled_log_p_z`. They
    use at most MONITORED held-out images (training images if there is no test split) and as many
    draws.
    """
    images = data.evaluated.spread(MONITORED)
    inferred = trained.infer(images, config.seed, training_settings=True).z
    sampled, _ = trained.sample(len(images), config.seed)
    figures = {"mmd": squared_mmd(inferred.astype(np.float64), sampled.astype(np.float64))}
    if trained.prior_is_normalized:
        figures["inferred_log_p_z"] = float(np.mean(trained.log_prior(inferred)))
        figures["sampled_log_p_z"] = float(np.mean(trained.log_prior(sampled)))
    return figures
