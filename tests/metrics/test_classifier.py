"""The classifier that a data set's measurements share."""

import re

import jax
import numpy as np
import pytest

from lfbm_jax.data import prepare
from lfbm_jax.metrics import classifier
from tests.builders import experiment


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    config = experiment("digits")
    with config.unlocked():
        config.data.cache_dir = str(tmp_path_factory.mktemp("cache"))
    return prepare(config.data)


def probabilities(found, images):
    return np.concatenate(list(found.probabilities(images)))


def test_learns_digits_once(digits, monkeypatch):
    """Narrower than users' classifiers, which digits of 8 x 8 do not need."""
    monkeypatch.setattr(classifier, "WIDTHS", (8, 16))
    found = classifier.of_training_images(digits, num_epochs=15)
    real = probabilities(found, digits.held_out.images)
    np.testing.assert_allclose(real.sum(axis=1), 1, rtol=1e-5)
    assert np.mean(real.argmax(axis=1) == digits.held_out.labels) > 0.93
    other = classifier.of_training_images(digits, num_epochs=1)
    assert np.abs(probabilities(other, digits.held_out.images) - real).max() > 0.1
    monkeypatch.setattr(classifier, "_train", None)  # not called again
    again = classifier.of_training_images(digits, num_epochs=15)
    np.testing.assert_array_equal(probabilities(again, digits.held_out.images), real)


def test_images_without_a_label_teach_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "WIDTHS", (4, 4))
    unknown = np.arange(len(digits.train.labels)) % 3 == 0
    found = []
    for noise in (0, 255):
        images = np.where(unknown[:, None, None, None], noise, digits.train.images)
        labels = np.where(unknown, -1, digits.train.labels)
        train = digits.train._replace(images=images.astype(np.uint8), labels=labels)
        (folder := tmp_path / str(noise)).mkdir()
        data = digits._replace(train=train, directory=folder)
        judge = classifier.of_training_images(data, num_epochs=1)
        found.append(probabilities(judge, digits.held_out.images))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("share", (0, 0.5, 0.99))
def test_a_damaged_file_is_set_aside(share, tmp_path, capsys):
    path = tmp_path / "classifier-0.npz"
    kernel = np.random.default_rng(0).normal(size=(50, 4))
    np.savez(path, **{"Dense_0.kernel": kernel})
    np.testing.assert_array_equal(classifier._kept(path)["Dense_0"]["kernel"], kernel)
    whole = path.read_bytes()
    path.write_bytes(damaged := whole[: int(share * len(whole))])
    assert classifier._kept(path) is None and not path.exists()
    assert (tmp_path / "classifier-0.npz.damaged").read_bytes() == damaged
    assert capsys.readouterr().out.count("\n") == 1
    assert classifier._kept(path) is None  # as if there had never been one


@pytest.mark.parametrize("other", ["cuda", "float64", "version", "epochs", "selection"])
def test_whatever_changes_the_classifier_changes_its_file(other, monkeypatch):
    name = classifier._file_name(5, 100, "")
    assert classifier._file_name(5, 100, "") == name
    if other == "cuda":
        monkeypatch.setattr(classifier.jax, "default_backend", lambda: "cuda")
    elif other == "version":
        monkeypatch.setattr(classifier.optax, "__version__", "0.0.0")
    with jax.enable_x64(other == "float64"):
        epochs, selection = 6 if other == "epochs" else 5, "-without-3" * (other == "selection")
        assert classifier._file_name(epochs, 100, selection) != name


@pytest.mark.parametrize("precision", ["default", "tensorfloat32", "highest"])
def test_products_are_float32_under_every_precision(precision):
    """Read off the training step's program for CUDA: all of its products are of HIGHEST."""
    network = classifier.Network(classes=3)
    x = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)
    with jax.default_matmul_precision(precision):
        parameters = jax.eval_shape(network.init, jax.random.key(0), x)

        def loss(parameters, x):
            return sum(out.sum() for out in network.apply(parameters, x))

        lowered = jax.jit(jax.grad(loss)).trace(parameters, x).lower(lowering_platforms=("cuda",))
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", lowered.as_text())
    assert len(products) >= 8
    assert all(product.count("HIGHEST") == 2 for product in products), products


@pytest.mark.parametrize("side", [8, 28, 64])
def test_features_lead_to_the_logits(side):
    """The penultimate layer: logits are linear in it, and it is not negative."""
    network = classifier.Network(classes=7)
    x = np.random.default_rng(0).uniform(-1, 1, (3, side, side, 1)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
    random = np.random.default_rng(1)
    parameters = jax.tree.map(lambda a: 0.1 * random.normal(size=a.shape).astype(a.dtype), shapes)
    features, logits = jax.jit(network.apply)({"params": parameters}, x)
    assert features.shape == (3, classifier.FEATURES)
    assert logits.shape == (3, 7)
    assert features.min() >= 0
    last = parameters["Dense_1"]
    expected = np.asarray(features) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
