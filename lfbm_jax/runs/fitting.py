"""Fits a prior after training, to z inferred from all training images."""

import functools

import jax
import numpy as np

from lfbm_jax.files import terminal
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache
from lfbm_jax.images.pixels import flip
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Parameters
from lfbm_jax.trained.api import TrainedModel

CHUNK = 10_000  # images in host memory at once


def fitted(trained: TrainedModel, data: Cache) -> TrainedModel:
    """The model with its prior fitted; the model itself if its prior needs no fit."""
    return trained if trained.prior_is_fitted else fit(trained, data)


def fit(trained: TrainedModel, data: Cache) -> TrainedModel:
    """The model with its prior fitted. Averaged parameters get a prior fitted to their own z."""
    terminal.note("fitting the prior to latent vectors of all training images ...")
    average = trained.averaged
    return trained.with_parameters(
        _with_fitted_prior(trained, data),
        trained.step,
        _with_fitted_prior(average, data) if average else None,
    )


def _with_fitted_prior(trained: TrainedModel, data: Cache) -> Parameters:
    """The model's parameters, with alpha fitted."""
    alpha = jax.device_get(trained.parameters.alpha)
    draw = functools.partial(inferred, trained, data)
    alpha = trained.model.prior.fit(alpha, draw, trained.config.seed)
    return trained.parameters._replace(alpha=alpha)


def inferred(trained: TrainedModel, data: Cache, epoch: int) -> np.ndarray:
    """Infers z of every training image, [N, d], as in training, with new noise in each epoch."""
    config = trained.config
    rows = np.arange(len(data.train.images))
    chunks = [rows[begin : begin + CHUNK] for begin in range(0, len(rows), CHUNK)]
    z = []
    for number, chunk in enumerate(chunks):
        images, visible = _as_in_training(trained, data, epoch, chunk)
        # Every chunk of every epoch gets its own noise.
        chain = epoch * len(chunks) + number
        found = trained.infer(
            images, config.seed, training_settings=True, masks=visible, chain=chain
        )
        z.append(found.z)
    return np.concatenate(z)


def _as_in_training(
    trained: TrainedModel, data: Cache, epoch: int, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Training images and their masks, a random half of them mirrored if training does so.

    Flips are those of the training step that would follow the last one, later by `epoch` steps.
    """
    config = trained.config
    images, visible = data.train.images[rows], masks.of_training_images(config, rows)
    if not config.data.horizontal_flip:
        return images, visible

    def one(row, example):
        key = key_for(config.seed, Purpose.FLIP, trained.step + epoch, row)
        return jax.tree.map(functools.partial(flip, key), example)

    return jax.device_get(jax.vmap(one)(rows, (images, visible)))
