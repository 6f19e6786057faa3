"""The task on a model whose densities are known: areas, base rates, which images are scored."""

import math
import types

import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits

from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.metrics.precision_recall import auprc, average_precision
from lfbm_jax.objectives import variational
from lfbm_jax.runs import configuration
from lfbm_jax.tasks import anomaly
from lfbm_jax.trained.programs import Inferred
from tests.builders import experiment, small_config

HELD_OUT = 3


def split(labels, seed):
    """Images whose first pixel is their label and whose others are noise."""
    labels = np.asarray(labels, np.int32)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = labels
    return Split(images, labels)


@pytest.fixture
def data():
    """180 training and 36 test images of nine classes, 4 of the tenth that is held out."""
    normal = np.delete(np.arange(10), HELD_OUT)
    test, excluded = split(np.tile(normal, 4), 1), split(np.full(4, HELD_OUT), 2)
    return Cache(split(np.tile(normal, 20), 0), test, None, excluded)


def scored(data):
    """The images in the order in which they are scored, and which are anomalies."""
    images = np.concatenate([data.held_out.images, data.excluded.images])
    return images, label_of(images) == HELD_OUT


class Known:
    """log p(z) and log p(x|z) by a rule of the image; every chain has noise added."""

    def __init__(self, log_p_x_given_z, log_p_z=lambda images: np.zeros(len(images)), noise=0.0):
        self.rules = log_p_z, log_p_x_given_z
        self.noise = noise
        self.calls = []
        self.model = types.SimpleNamespace(
            objective=variational.Objective(), sigma_of=lambda parameters: np.float32(parameters)
        )
        self.parameters = 0.25

    def infer(self, images, seed, batch_size, chain, first):
        assert len(images) <= batch_size
        self.calls.append((images, chain))
        log_p_z, log_p_x_given_z = (rule(images) for rule in self.rules)
        noise = self.noise * np.random.default_rng((seed, chain, first)).normal(size=len(images))
        z = np.zeros((len(images), 2))
        return Inferred(z, images / 127.5 - 1, log_p_z, log_p_x_given_z + noise, {})

    def seen(self):
        """All images that chains were run for, in order."""
        return np.concatenate([images for images, _ in self.calls])


class OwnScore:
    """A model whose objective has a score of its own."""

    def __init__(self, rule):
        self.model = types.SimpleNamespace(objective=types.SimpleNamespace(score_name="-E(x)"))
        self.score = rule


class Writer:
    """Keeps a task's descriptions."""

    def __init__(self):
        self.pictures, self.setup = {}, {}

    def describe(self, **setting):
        self.setup |= setting

    def picture(self, name, picture):
        self.pictures[name] = picture


def config(**settings):
    config = small_config()
    config.data.exclude_labels = (HELD_OUT,)
    config.task.anomaly.update({"num_chains": 1, "batch_size": 12} | settings)
    return config


def label_of(images):
    return images[:, 0, 0, 0].astype(int)


def separating(images):
    return np.where(label_of(images) == HELD_OUT, -5.0, 0.0)


def test_a_model_that_knows_the_anomalies_reaches_one(data):
    writer = Writer()
    figures = anomaly.run(Known(separating), data, config(), writer)
    for name in ("auprc", "average_precision", "auprc_of_one_chain"):
        assert figures[name] == pytest.approx(1)
    # All scores alike: one step from (0, 1) to (1, base rate).
    assert figures["auprc_of_log_p_z"] == pytest.approx((1 + figures["base_rate"]) / 2)
    assert len(writer.pictures) == 5
    for picture in writer.pictures.values():
        assert picture.dtype == np.uint8
        assert picture.std() > 0


def test_an_objectives_own_score_takes_the_place_of_the_density(data):
    images, anomalies = scored(data)

    def rule(images):
        return images[:, 1, :, 0] @ [1.0, 0.1, 0.01, 0] + 20 * separating(images)

    writer = Writer()
    figures = anomaly.run(OwnScore(rule), data, config(), writer)
    assert figures == {
        "num_images": 40,
        "base_rate": 0.1,
        "auprc": pytest.approx(auprc(anomalies, rule(images))),
        "average_precision": pytest.approx(average_precision(anomalies, rule(images))),
    }
    assert 0.1 < figures["auprc"] < 1 and writer.setup["score"] == "-E(x)"
    assert len(writer.pictures) == 4


def test_the_held_out_class_is_the_positive_one_and_low_scores_are_anomalous(data):
    """A model that prefers the anomalies does worse than chance: the least possible area."""

    def prefers_anomalies(images):
        return images[:, 1, :, 0] @ [1.0, 0.1, 0.01, 0] - 1e3 * separating(images)

    figures = anomaly.run(Known(prefers_anomalies), data, config(), Writer())
    worst = np.arange(40) >= 36
    assert figures["auprc"] == pytest.approx(auprc(worst, np.arange(40)))
    assert figures["average_precision"] == pytest.approx(average_precision(worst, np.arange(40)))
    assert figures["auprc"] < figures["base_rate"]


def test_areas_are_those_of_the_sum_of_both_terms_and_of_each(data):
    images, anomalies = scored(data)

    def rule(row):
        return lambda x: x[:, row, :, 0] @ [1.0, 0.01, 0, 0] / 64 + 0.5 * separating(x)

    one, other = rule(1), rule(2)
    figures = anomaly.run(Known(one, other), data, config(), Writer())
    both = one(images) + other(images)
    assert figures["auprc"] == pytest.approx(auprc(anomalies, both))
    assert figures["average_precision"] == pytest.approx(average_precision(anomalies, both))
    alone = auprc(anomalies, one(images))
    assert figures["auprc_of_log_p_x_given_z"] == pytest.approx(alone)
    assert figures["auprc_of_log_p_z"] == pytest.approx(auprc(anomalies, other(images)))


def test_a_sigma_of_the_score_weighs_its_terms_and_leaves_the_model_alone(data):
    """The score is log p(z) - |x - g(z)|^2 / (2 sigma^2) - constant, whatever the model's sigma."""
    images, anomalies = scored(data)
    offsets = np.random.default_rng(5).uniform(0.05, 0.5, len(images))

    class Reconstructs(Known):
        def infer(self, images, *args, first, **kwargs):
            found = super().infer(images, *args, first=first, **kwargs)
            moved = offsets[first : first + len(images), None, None, None]
            return found._replace(reconstruction=images / 127.5 - 1 + moved)

    def prior(images):
        return images[:, 1, 1, 0] / 40

    areas = []
    for sigma in (0.5**0.5, 2.0):
        writer = Writer()
        model = Reconstructs(lambda images: np.full(len(images), np.e), prior)
        figures = anomaly.run(model, data, config(sigma=sigma), writer)
        expected = prior(images) - 16 * offsets**2 / (2 * sigma**2)
        assert figures["auprc"] == pytest.approx(auprc(anomalies, expected))
        assert figures["auprc_of_log_p_x_given_z"] == pytest.approx(auprc(anomalies, -offsets))
        assert writer.setup["score_sigma"] == sigma
        assert writer.setup["sigma"] == 0.25, "the model's, which may be learned"
        areas.append(figures["auprc"])
        mse = np.mean(offsets[anomalies] ** 2)
        assert figures["mse_of_anomalies"] == pytest.approx(mse, rel=1e-5)
    assert areas[0] != areas[1], "else the weight of the terms did not matter"


def test_likelihood_of_the_score_is_the_normal_density():
    x, mean = np.random.default_rng(0).normal(size=(2, 3, 16))
    mse = np.mean((x - mean) ** 2, axis=1)
    expected = scipy.stats.norm.logpdf(x, mean, 0.7).sum(axis=1)
    np.testing.assert_allclose(anomaly._log_likelihood(mse, 16, 0.7), expected, rtol=1e-13)


def test_scores_are_averaged_over_different_chains(data):
    model = Known(separating, noise=6.0)
    figures = anomaly.run(model, data, config(num_chains=50), Writer())
    assert len({chain for _, chain in model.calls}) == 50
    assert figures["auprc"] > 0.95 > 0.7 > figures["auprc_of_one_chain"]


def test_every_held_out_image_is_scored_and_no_training_image(data):
    model = Known(separating)
    figures = anomaly.run(model, data, config(), Writer())
    assert (figures["num_images"], figures["base_rate"]) == (40, 0.1)
    np.testing.assert_array_equal(model.seen(), scored(data)[0])


def test_a_part_of_the_scored_images_is_spread_over_them(data):
    model = Known(separating)
    figures = anomaly.run(model, data, config(num_images=20), Writer())
    assert (figures["num_images"], figures["base_rate"]) == (20, 0.1)
    np.testing.assert_array_equal(model.seen(), scored(data)[0][::2])


def test_pooled_splits_are_what_training_left_out(tmp_path):
    """From the settings to the scores: the digits of scikit-learn, several classes held out."""
    settings = config()
    settings.data.update({"source": "embedded", "name": "digits", "cache_dir": str(tmp_path)})
    settings.data.update({"exclude_labels": (3, 8), "pooled_train_share": 0.8, "pooled_seed": 2})
    data = prepare(settings.data)
    model = Known(lambda images: -images.mean(axis=(1, 2, 3)))
    writer = Writer()
    figures = anomaly.run(model, data, settings, writer)
    labels = load_digits().target
    anomalies = np.isin(labels, (3, 8)).sum()
    normal = len(labels) - anomalies
    assert figures["num_images"] == anomalies + normal - int(0.8 * normal)
    assert figures["base_rate"] == pytest.approx(anomalies / figures["num_images"])
    trained = {image.tobytes() for image in np.asarray(data.train.images)}
    assert not trained & {image.tobytes() for image in model.seen()}
    assert writer.setup["split"] == "pooled 80/20"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data, config: config.task.anomaly.update({"num_images": 1}), "num_images"),
        (lambda data, config: data._replace(held_out=None), "4 of the 4 scored images"),
        (lambda data, config: data._replace(excluded=None), "0 of the 36 scored images"),
        (lambda data, config: data._replace(held_out=None, excluded=None), "no image is held out"),
    ],
    ids=["too few", "anomalies only", "normal images only", "no test split"],
)
def test_mistakes_are_one_line(data, change, named):
    settings = config()
    changed = change(data, settings) or data
    with pytest.raises(UserError, match=named):
        anomaly.check_data(changed, settings)


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("data", {"exclude_labels": ()}, "data.exclude_labels"),
        ("task", {"anomaly": {"num_chains": 0}}, "num_chains=0"),
        ("task", {"anomaly": {"num_chains": 1, "sigma": -1.0}}, "sigma=-1.0"),
        ("task", {"anomaly": {"num_chains": 1, "sigma": math.inf}}, "sigma=inf"),
    ],
)
def test_settings_that_make_no_sense_stop_before_training(section, change, named):
    settings = config()
    settings.tasks = ("anomaly",)
    configuration.check(settings)
    settings[section].update(change)
    with pytest.raises(UserError, match=named):
        configuration.check(settings)


def test_a_score_that_is_not_finite_stops(data):
    model = Known(lambda images: np.where(separating(images) < 0, np.nan, 0.0))
    with pytest.raises(FloatingPointError, match="4 images is not finite"):
        anomaly.run(model, data, config(), Writer())


def test_config_holds_out_the_digit_in_either_split():
    config = experiment("mnist_anomaly", "digit=4")
    assert config.data.pooled_train_share == 0.8
    assert config.data.exclude_labels == (4,)
    for variants in ("digit=4,test_split", "test_split,digit=4"):
        config = experiment("mnist_anomaly", variants)
        assert config.data.exclude_labels == (4,)
        assert config.data.pooled_train_share == 0
    with pytest.raises(UserError, match="digit=12"):
        experiment("mnist_anomaly", "digit=12")
