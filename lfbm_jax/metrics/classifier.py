"""A small convolutional classifier, trained on the labelled training images of a data set.

It is a measuring instrument, the same for all models of a data set: it does not depend on a model's
seed or `precision`. Its products are always float32. Another kind of device rounds differently and
so trains another classifier, which gets its own file. Distances in its features are not FIDs
and are never called so.
"""

import functools
import hashlib
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from lfbm_jax.files import atomic, terminal
from lfbm_jax.images.cache import Cache, blaming_cache_dir
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.metrics.features import Extractor

WIDTHS = (32, 64)  # channels of the first convolutions; later ones are as wide as the last of these
SMALLEST_SIDE = 8  # images are halved until their sides are at most this, but at least twice
FEATURES = 128
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
SEED = 0
PRECISION = "highest"  # of the classifier's products
FORMAT = 2  # Increase it when the training changes: old files stay, unused.


class Network(nn.Module):
    """Maps x [B, H, W, C] in [-1, 1] to features [B, 128] and logits [B, classes]."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        halvings = max(len(WIDTHS), math.ceil(math.log2(x.shape[1] / SMALLEST_SIDE)))
        for i in range(halvings):
            width = WIDTHS[min(i, len(WIDTHS) - 1)]
            x = nn.relu(nn.Conv(width, (5, 5), 2, precision=PRECISION, param_dtype=float)(x))
        dense = functools.partial(nn.Dense, precision=PRECISION, param_dtype=float)
        x = nn.relu(dense(FEATURES, name="Dense_0")(x.reshape(len(x), -1)))
        return x, dense(self.classes, name="Dense_1")(x)


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
        features: images -> [B, 128], batch by batch.
        probabilities: images -> [B, classes], batch by batch.
        file: the name of its file in the cache of the data set, which identifies the classifier.
    """

    features: Extractor
    probabilities: Extractor
    file: str


def of_training_images(data: Cache, num_epochs: int) -> Classifier:
    """The classifier of the training images, loaded from their cache, or else trained.

    Args:
        data: the data set; labels are 0, 1, ..., or -1 if unknown. Images without one are left out.
        num_epochs: passes over the training images.
    """
    labels = data.train.labels
    if labels is None:
        raise ValueError("the training images have no labels")
    network = Network(int(labels.max()) + 1)
    rows = np.flatnonzero(labels >= 0)
    path = data.directory / _file_name(num_epochs, len(rows), data.selection)
    parameters = _kept(path)
    if parameters is None:
        parameters = _train(network, data.train.images, labels, rows, num_epochs)
        with (
            blaming_cache_dir(data.directory),
            atomic.replacing(path) as temporary,
            open(temporary, "wb") as file,
        ):
            np.savez(file, **flatten_dict(parameters, sep="."))

    def features(parameters, x):
        return network.apply({"params": parameters}, x)[0]

    def probabilities(parameters, x):
        return nn.softmax(network.apply({"params": parameters}, x)[1])

    return Classifier(
        Extractor(features, parameters, FEATURES, BATCH_SIZE),
        Extractor(probabilities, parameters, network.classes, BATCH_SIZE),
        path.name,
    )


def _kept(path: Path) -> Any | None:
    """The parameters in a file; None if it does not exist. A damaged file is set aside."""
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            return unflatten_dict(dict(file), sep=".")
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        place = atomic.set_aside(path, path.with_name(f"{path.name}.damaged"))
        print(f"{path} is damaged ({error}) and kept as {place.name}; the classifier is trained"
              " again", flush=True)
        return None


def _file_name(num_epochs: int, num_images: int, selection: str) -> str:
    """A file name that depends on whatever the parameters depend on, except the images."""
    setting = {
        "format": FORMAT,
        "network": (WIDTHS, SMALLEST_SIDE, FEATURES),
        "training": (BATCH_SIZE, LEARNING_RATE, SEED, num_epochs, num_images, selection),
        "numbers": (PRECISION, jnp.result_type(float).name),
        "device": (jax.default_backend(), jax.local_devices()[0].device_kind),
        "libraries": (jax.__version__, flax.__version__, optax.__version__),
    }
    digest = hashlib.sha256(repr(setting).encode()).hexdigest()
    return f"classifier-{digest[:12]}.npz"


def _train(
    network: Network,
    all_images: np.ndarray,
    all_labels: np.ndarray,
    labelled: np.ndarray,
    num_epochs: int,
) -> Any:
    """Minimises the cross entropy by Adam with a cosine decay of the learning rate to zero.

    `labelled` has the rows of the images to learn from.
    """
    batch_size = min(BATCH_SIZE, len(labelled))
    steps = len(labelled) // batch_size
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, num_epochs * steps))
    key = jax.random.key(SEED)
    parameters = jax.jit(network.init)(key, to_unit_range(all_images[:1]))["params"]
    moments = optimizer.init(parameters)

    def loss(parameters, images, labels):
        _, logits = network.apply({"params": parameters}, to_unit_range(images))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(parameters, moments, images, labels):
        value, gradient = jax.value_and_grad(loss)(parameters, images, labels)
        change, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(parameters, change), moments, value

    with terminal.bar(total=num_epochs * steps, desc="training the classifier", unit="step",
              delay=3, leave=False) as bar:
        for epoch in range(num_epochs):
            order = np.random.default_rng((SEED, epoch)).permutation(labelled)
            for rows in order[: steps * batch_size].reshape(steps, batch_size):
                images, labels = all_images[rows], all_labels[rows]
                parameters, moments, value = update(parameters, moments, images, labels)
                bar.update()
    if not jnp.isfinite(value):
        raise FloatingPointError(f"the classifier's loss became {value}")
    return jax.device_get(parameters)
