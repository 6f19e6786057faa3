"""Are samples recognised? A classifier of the real images looks at generated ones."""

import ml_collections
import numpy as np

from lfbm_jax.api import TrainedModel
from lfbm_jax.data.cache import Cache
from lfbm_jax.errors import UserError
from lfbm_jax.report import ReportWriter

SETTINGS = {"num_images": 1000, "num_epochs": 20}
SMOKE = {"num_images": 8, "num_epochs": 1}

CONFIDENT = 0.9
HIDDEN = (256,)


def run(
    model: TrainedModel, data: Cache, config: ml_collections.ConfigDict, writer: ReportWriter
) -> dict[str, float]:
    """Trains a classifier on the training images and shows it `task.classify.num_images` samples.

    A perceptron with one hidden layer, of scikit-learn, `task.classify.num_epochs` epochs.

    Figures: its accuracy on test images; the share of samples, and of test images beside them, on
    which it is at least 0.9 confident; the number of classes of the data, of those found among
    the confidently recognised samples, and the share of the rarest one among these.

    Raises:
        UserError: the images have no labels or there is no test split.
    """
    from sklearn.neural_network import MLPClassifier  # Every command lists the tasks; few need it.

    settings = config.task.classify
    if data.test is None or data.train.labels is None:
        raise UserError("task classify needs labels and a test split: leave it out of tasks")
    classifier = MLPClassifier(
        HIDDEN, max_iter=settings.num_epochs, n_iter_no_change=settings.num_epochs,
        random_state=config.seed,
    )
    classifier.fit(_flat(data.train.images / np.float32(127.5) - 1), data.train.labels)
    _, samples = model.sample(settings.num_images, config.seed)
    writer.describe(split="test", classifier=f"perceptron {HIDDEN}, {settings.num_epochs} epochs")
    test = _flat(data.test.images / np.float32(127.5) - 1)
    real = classifier.predict_proba(test)
    probabilities = classifier.predict_proba(_flat(samples))
    confident = probabilities.max(axis=1) >= CONFIDENT
    counts = np.bincount(
        probabilities[confident].argmax(axis=1), minlength=len(classifier.classes_)
    )
    return {
        "num_images": len(samples),
        "test_accuracy": float(classifier.score(test, data.test.labels)),
        "confident_share": float(confident.mean()),
        "confident_share_of_test_images": float(np.mean(real.max(axis=1) >= CONFIDENT)),
        "classes": len(counts),
        "classes_found": int(np.count_nonzero(counts)),
        "share_of_rarest_class": float(counts.min() / max(counts.sum(), 1)),
    }


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)
