"""Measures whether a classifier trained on real images recognises generated ones.

Figures: the classifier's accuracy on test images; the shares of samples and of test images that it
recognises with a confidence of at least 0.9; the number of classes of the data, the number of
classes among the confidently recognised samples, and the share of the rarest class among these; the
Frechet distance between the classifier's features of samples (at most as many as there are test
images) and of the training images; and, for comparison, the same distance for test images.
"""

import ml_collections
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.chunks import chunks
from lfbm_jax.images.pixels import to_uint8
from lfbm_jax.metrics import classifier
from lfbm_jax.metrics.features import Summary
from lfbm_jax.metrics.frechet import frechet_distance
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.trained.api import TrainedModel

SETTINGS = {"num_images": 10_000, "num_epochs": 5, "batch_size": 100}
SMOKE = {"num_images": 8, "num_epochs": 1, "batch_size": 4}

CONFIDENT = 0.9


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the task's settings are invalid."""
    for key, least in (("num_images", 2), ("num_epochs", 1)):
        if config.task.classify[key] < least:
            value = config.task.classify[key]
            raise UserError(f"task.classify.{key}={value}: must be at least {least}")


def check_data(data: Cache, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the images have no labels or there is no test split."""
    del config
    if data.held_out is None or not (_has_labels(data.train) and _has_labels(data.held_out)):
        raise UserError("task classify needs labels and a test split: leave it out of tasks")
    if len(data.held_out.images) < 2:
        raise UserError("task classify needs at least two held-out images: leave it out of tasks")


def run(
    trained: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Classifies `task.classify.num_images` samples by a classifier of the training images.

    The classifier (see `metrics.classifier`) is trained for `task.classify.num_epochs` epochs, once
    per data set.
    """
    settings, held_out = config.task.classify, data.held_out
    assert held_out is not None, "check_data refuses this"
    judge = classifier.of_training_images(data, settings.num_epochs)
    samples = _samples(trained, config)
    compared = min(len(samples), len(held_out.images))
    writer.describe(
        split=held_out.name,
        classifier=f"convolutional, {settings.num_epochs} epochs, {judge.file}",
        frechet_num_images=compared,
        frechet_num_training_images=len(data.train.images),
        frechet_features=f"{classifier.FEATURES} of the classifier's last hidden layer; not an FID",
    )
    return (
        {"num_images": len(samples)}
        | _recognition(judge, held_out, _classes(data.train), samples)
        | _distances(judge, data.train, held_out, samples[:compared])
    )


def _has_labels(split: Split) -> bool:
    return len(_classes(split)) > 0


def _classes(split: Split) -> np.ndarray:
    """The labels that occur, [C]; -1 stands for none."""
    classes = np.unique([] if split.labels is None else split.labels).astype(int)
    return classes[classes >= 0]


def _samples(trained: TrainedModel, config: ml_collections.ConfigDict) -> np.ndarray:
    """Draws samples [N, H, W, C], as uint8, because the classifier takes this type."""
    settings = config.task.classify
    return np.concatenate(
        [
            to_uint8(
                trained.sample(
                    chunk.stop - chunk.start, config.seed, settings.batch_size, chunk.start
                ).images
            )
            for chunk in chunks(settings.num_images, settings.batch_size, "sampling")
        ]
    )


def _recognition(
    judge: classifier.Classifier, held_out: Split, classes: np.ndarray, samples: np.ndarray
) -> dict[str, float]:
    """Figures of the classifier's confidence in test images and samples, and of the classes."""
    real = np.concatenate(list(judge.probabilities(held_out.images)))
    probabilities = np.concatenate(list(judge.probabilities(samples)))
    confident = probabilities.max(axis=1) >= CONFIDENT
    counts = np.bincount(
        probabilities[confident].argmax(axis=1), minlength=probabilities.shape[1]
    )
    counts, labels = counts[classes], np.asarray(held_out.labels)
    return {
        "test_accuracy": float(np.mean((real.argmax(axis=1) == labels)[labels >= 0])),
        "confident_share": float(confident.mean()),
        "confident_share_of_test_images": float(np.mean(real.max(axis=1) >= CONFIDENT)),
        "classes": len(counts),
        "classes_found": int(np.count_nonzero(counts)),
        "share_of_rarest_class": float(counts.min() / max(counts.sum(), 1)),
    }


def _distances(
    judge: classifier.Classifier, train: Split, held_out: Split, samples: np.ndarray
) -> dict[str, float]:
    """Frechet distances of samples, and of as many test images, to the training images."""
    training, generated, others = (
        Summary.of_array(judge.features, images).gaussian
        for images in (train.images, samples, held_out.spread(len(samples)))
    )
    return {
        "classifier_frechet_distance": frechet_distance(generated, training),
        "classifier_frechet_distance_of_test_images": frechet_distance(others, training),
    }
