"""Priors that are fitted once training has ended, to z inferred from all training images."""

import functools

import jax
import numpy as np

from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.model import Parameters
from lfbm_jax.trained.api import TrainedModel

CHUNK = 10_000  # images in the host's memory at once


def fitted(trained: TrainedModel, data: Cache) -> TrainedModel:
    """The model with its prior fitted; itself where there is nothing to fit, or nothing left to."""
    return trained if trained.prior_is_fitted else fit(trained, data)


def fit(trained: TrainedModel, data: Cache) -> TrainedModel:
    """The model with its prior fitted, and that of its averaged parameters to their own z."""
    print("fitting the prior to latent vectors of all training images ...", flush=True)
    average = trained.averaged
    return trained.with_parameters(
        _with_fitted_prior(trained, data),
        trained.step,
        average and _with_fitted_prior(average, data),
    )


def _with_fitted_prior(trained: TrainedModel, data: Cache) -> Parameters:
    """Its parameters with alpha fitted."""
    alpha = jax.device_get(trained.parameters.alpha)
    draw = functools.partial(inferred, trained, data)
    alpha = trained.model.prior.fit(alpha, draw, trained.config.seed)
    return trained.parameters._replace(alpha=alpha)


def inferred(trained: TrainedModel, data: Cache, epoch: int) -> np.ndarray:
    """z of every training image, [N, d], inferred as in training, anew in every epoch."""
    config = trained.config
    rows = np.arange(len(data.train.images))
    chunks = [rows[begin : begin + CHUNK] for begin in range(0, len(rows), CHUNK)]
    return np.concatenate(
        [
            trained.infer(
                data.train.images[chunk],
                config.seed,
                training_settings=True,
                masks=masks.of_training_images(config, chunk),
                # Chunks and epochs have noise of their own.
                chain=epoch * len(chunks) + number,
            ).z
            for number, chunk in enumerate(chunks)
        ]
    )
