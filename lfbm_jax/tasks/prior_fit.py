"""Does the learned prior match the aggregated posterior (section 3.4)?

Latent vectors are inferred from images with the settings of training: z ~ (1/N) sum_i p(z|x_i),
the aggregated posterior, which maximum likelihood fits the prior to.

Figures, log-densities in nats: `num_images` and `num_training_images`, of the two splits;
`test_log_p_z`, the mean log p(z) of latent vectors inferred from test images, and
`gaussian_test_log_p_z`, the same under the Gaussian with the mean and the full covariance of those
inferred from training images (a prior that is not normalised has neither); `sampled_log_p_z`, of
draws from the prior; `mmd`, the squared maximum mean discrepancy between inferred and sampled
vectors (see `squared_mmd`), and `mmd_standard_normal`, between inferred vectors and as many draws
from N(0, I); `two_sample_accuracy`, of a classifier that tells inferred from sampled vectors (see
`two_sample_accuracy`), near 0.5 for a good prior.
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

SETTINGS = {"num_images": 2000, "batch_size": 100}  # images of each split; 0: all
SMOKE = {"num_images": 0, "batch_size": 16}

MONITORED = 200


def check(config: ml_collections.ConfigDict) -> None:
    """UserError where too few images are asked for; `run` sees how many there are."""
    num_images = config.task.prior_fit.num_images
    if num_images:
        _check_enough(num_images, config.model.latent_dim)


def _check_enough(num_images: int, latent_dim: int) -> None:
    if num_images <= latent_dim:
        raise UserError(
            f"task.prior_fit.num_images: a covariance in {latent_dim} dimensions takes more than"
            f" {num_images} training images"
        )


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Compares the prior with a Gaussian, and latent vectors inferred with sampled ones.

    `task.prior_fit.num_images` images of each split are used (0: all).

    Raises:
        UserError: there is no test split, or there are too few training images for a covariance.
    """
    if data.held_out is None:
        raise UserError("task prior_fit needs a test split: set data.test_fraction")
    train = _inferred(trained, data.train, config, config.seed)
    test = _inferred(trained, data.held_out, config, config.seed + 1)
    _check_enough(*train.shape)
    writer.describe(split=data.held_out.name, inference=dict(config.inference))
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
    """Latent vectors of images that are spread over a split, float64 [N, d]."""
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
    """Latent vectors that are drawn from the prior, [num, d]."""
    batch_size = config.task.prior_fit.batch_size
    z = [
        trained.sample(chunk.stop - chunk.start, config.seed, batch_size, chunk.start).z
        for chunk in chunks(num, batch_size, "sampling")
    ]
    return np.concatenate(z)


def monitor(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict
) -> dict[str, float]:
    """The cheap ones of these figures, logged every `train.sample_every` steps.

    For at most MONITORED held-out images (training images where there is no test split) and as
    many draws: `mmd`, and where the prior is normalised `inferred_log_p_z` and `sampled_log_p_z`.
    """
    images = data.evaluated.spread(MONITORED)
    inferred = trained.infer(images, config.seed, training_settings=True).z
    sampled, _ = trained.sample(len(images), config.seed)
    figures = {"mmd": squared_mmd(inferred.astype(np.float64), sampled.astype(np.float64))}
    if trained.prior_is_normalized:
        figures["inferred_log_p_z"] = float(np.mean(trained.log_prior(inferred)))
        figures["sampled_log_p_z"] = float(np.mean(trained.log_prior(sampled)))
    return figures
