"""The classify task on "models" whose samples are known."""

import numpy as np
import pytest

from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.pixels import to_unit_range
from lfbm_jax.tasks import classify
from lfbm_jax.trained.programs import Samples
from tests.builders import experiment


class Sampler:
    """Samples what it was given."""

    def __init__(self, images):
        self.images = images

    def sample(self, num, seed, batch_size, first):
        return Samples(None, self.images[first : first + num])


class Writer:
    def describe(self, **setting):
        self.setting = setting


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Of the digits; the classifier is narrower than users', which digits of 8 x 8 do not need."""
    config = experiment("digits")
    with config.unlocked():
        config.data.cache_dir = str(tmp_path_factory.mktemp("cache"))
        config.task.classify.num_epochs = 15
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify.classifier, "WIDTHS", (8, 16))
        yield config


@pytest.fixture(scope="module")
def data(config):
    return prepare(config.data)


def test_real_images_are_as_near_as_real_images(config, data):
    writer = Writer()
    figures = classify.run(Sampler(data.held_out.images / 127.5 - 1), data, config, writer)
    assert figures["confident_share"] == figures["confident_share_of_test_images"]
    assert figures["classes"] == figures["classes_found"] == 10
    floor = figures["classifier_frechet_distance_of_test_images"]
    assert figures["classifier_frechet_distance"] == pytest.approx(floor, rel=1e-6)
    assert writer.setting["frechet_num_images"] == len(data.held_out.images)
    assert not any(name.startswith("fid") for name in figures)


def test_worse_samples_are_further_away(config, data):
    """The distance is larger with noise than without, and for one class than for all classes."""
    x = data.held_out.images / 127.5 - 1
    noise = np.random.default_rng(0).normal(size=x.shape)
    zeros = x[data.held_out.labels == 0]
    floor, noisy, very_noisy, one_class = (
        classify.run(Sampler(np.clip(images, -1, 1)), data, config, Writer())
        for images in (x, x + 0.3 * noise, x + noise, zeros)
    )
    distances = [f["classifier_frechet_distance"] for f in (floor, noisy, very_noisy)]
    assert distances[0] < distances[1] < distances[2]
    assert one_class["classifier_frechet_distance"] > 2 * distances[0]
    assert one_class["classes_found"] < 5


class KnownFeatures:
    """The features of an image are the last three of its five pixels."""

    size = 3

    def __call__(self, images):
        yield np.asarray(to_unit_range(images), np.float64)[:, 0, 2:, 0]


def known_probabilities(images):
    """Of three classes, the first pixel is the likeliest and the second is its probability."""
    label, share = np.round((np.asarray(to_unit_range(images))[:, 0, :2, 0].T + 1) * 127.5)
    found = np.repeat((1 - share[:, None] / 100) / 2, 3, axis=1)
    found[np.arange(len(images)), label.astype(int)] = share / 100
    yield found


def test_figures_of_known_images_by_a_known_classifier(config, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    train = random.integers(50, 200, (20, 1, 5, 1), dtype=np.uint8)
    train[:, 0, 0, 0] = np.arange(20) % 3
    labels = train[:, 0, 0, 0].astype(int)
    test, samples = train.copy(), train.copy()
    test[:, 0, 3] += 40  # Gaussians of equal covariance: the distance is that of the means.
    samples[:, 0, 2] += 10
    test[:, 0, 1, 0] = [95] * 19 + [60]
    samples[:, 0, 0, 0] = [0] * 10 + [1] * 6 + [2] * 4
    samples[:, 0, 1, 0] = [95] * 10 + [89] * 6 + [91] * 4
    told = np.where(np.arange(20) < 4, (labels + 1) % 3, labels)  # Four wrong labels.
    labels[17], told[18:] = -1, -1  # not known
    judge = classify.classifier.Classifier(KnownFeatures(), known_probabilities, "known")
    monkeypatch.setattr(classify.classifier, "of_training_images", lambda data, epochs: judge)
    data = Cache(Split(train, labels), Split(test, told), tmp_path)
    figures = classify.run(Sampler(samples / 127.5 - 1), data, config, Writer())
    assert figures == pytest.approx(
        {
            "num_images": 20,
            "test_accuracy": 14 / 18,
            "confident_share": 14 / 20,
            "confident_share_of_test_images": 19 / 20,
            "classes": 3,
            "classes_found": 2,
            "share_of_rarest_class": 0,
            "classifier_frechet_distance": (10 / 127.5) ** 2,
            "classifier_frechet_distance_of_test_images": (40 / 127.5) ** 2,
        },
        rel=1e-5,  # The images are float32.
    )
    # Of more samples than test images, as many are compared.
    more = np.concatenate([samples, 255 - samples])
    more[20:, 0, 0, 0] = 0
    with_more = classify.run(Sampler(more / 127.5 - 1), data, config, Writer())
    name = "classifier_frechet_distance"
    assert with_more["num_images"] == 40 and with_more[name] == pytest.approx(figures[name])


def test_mistakes_are_one_line(config, data):
    no_labels = data._replace(train=data.train._replace(labels=None))
    unknown = data.train._replace(labels=np.full_like(data.train.labels, -1))
    one = Split(data.held_out.images[:1], data.held_out.labels[:1])
    with pytest.raises(UserError, match="at least two held-out images"):
        classify.check_data(data._replace(held_out=one), config)
    for broken in (data._replace(held_out=None), no_labels, data._replace(train=unknown)):
        with pytest.raises(UserError, match="labels and a test split"):
            classify.check_data(broken, config)
    settings = experiment("digits")
    for key in ("num_images", "num_epochs"):
        with settings.unlocked():
            settings.task.classify[key] = 0
        with pytest.raises(UserError, match=rf"task\.classify\.{key}=0: must be at least"):
            classify.check(settings)
        with settings.unlocked():
            settings.task.classify[key] = 7
