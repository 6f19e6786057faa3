"""The task on a model whose densities are known: areas, base rates, which images are scored."""

import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
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
    """200 training and 40 test images of ten classes."""
    return Cache(split(np.arange(200) % 10, 0), split(np.arange(40) % 10, 1), None)


class Known:
    """log p(z) and log p(x|z) by a rule of the image; every chain has noise added."""

    def __init__(self, log_p_x_given_z, log_p_z=lambda images: np.zeros(len(images)), noise=0.0):
        self.rules = log_p_z, log_p_x_given_z
        self.noise = noise
        self.calls = []

    def infer(self, images, seed, batch_size, chain):
        self.calls.append((images, chain))
        log_p_z, log_p_x_given_z = (rule(images) for rule in self.rules)
        noise = self.noise * np.random.default_rng((seed, chain)).normal(size=len(images))
        z = np.zeros((len(images), 2))
        return Inferred(z, images / 127.5 - 1, log_p_z, log_p_x_given_z + noise, {})


class Writer:
    """Keeps what a task says."""

    def __init__(self):
        self.pictures, self.setup = {}, {}

    def describe(self, **setting):
        self.setup |= setting

    def picture(self, name, picture):
        self.pictures[name] = picture


def config(**settings):
    config = small_config()
    config.data.exclude_labels = (HELD_OUT,)
    config.task.anomaly.update({"num_chains": 1} | settings)
    return config


def label_of(images):
    return images[:, 0, 0, 0].astype(int)


def separating(images):
    return np.where(label_of(images) == HELD_OUT, -5.0, 0.0)


def average_precision(anomaly_rows, score):
    """Its definition: the mean, over the anomalies, of the precision down to each."""
    order = np.argsort(score, kind="stable")
    hits = np.asarray(anomaly_rows)[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return precision[hits].mean()


def test_a_model_that_knows_the_anomalies_reaches_one(data):
    writer = Writer()
    figures = anomaly.run(Known(separating), data, config(), writer)
    assert figures["auprc"] == figures["auprc_80_20"] == figures["auprc_of_one_chain"] == 1
    assert figures["auprc_of_log_p_z"] == pytest.approx(figures["base_rate"])
    assert writer.setup["anomaly_labels"] == (HELD_OUT,)
    for name in ("precision_recall", "lowest_scores"):
        assert writer.pictures[name].dtype == np.uint8
        assert writer.pictures[name].std() > 0


def test_the_held_out_class_is_the_positive_one_and_low_scores_are_anomalous(data):
    """A model that prefers the anomalies does worse than chance: the least possible area."""
    model = Known(lambda images: np.arange(len(images)) - 1e3 * separating(images))
    figures = anomaly.run(model, data, config(), Writer())
    worst = average_precision([False] * 36 + [True] * 4, np.arange(40))
    assert figures["auprc"] == pytest.approx(worst)
    assert figures["auprc"] < figures["base_rate"]


def test_area_is_the_average_precision_of_the_sum_of_both_terms(data):
    """Each alone tells less; the figures name which."""
    images = data.test.images

    def rule(row):
        return lambda x: x[:, row, :, 0] @ [1.0, 0.01, 0, 0] / 64 + 0.5 * separating(x)

    one, other = rule(1), rule(2)
    figures = anomaly.run(Known(one, other), data, config(), Writer())
    anomalies = data.test.labels == HELD_OUT
    expected = average_precision(anomalies, one(images) + other(images))
    assert figures["auprc"] == pytest.approx(expected)
    assert figures["auprc_of_log_p_x_given_z"] == pytest.approx(
        average_precision(anomalies, one(images))
    )
    assert figures["auprc_of_log_p_z"] == pytest.approx(average_precision(anomalies, other(images)))


def test_scores_are_averaged_over_different_chains(data):
    model = Known(separating, noise=6.0)
    figures = anomaly.run(model, data, config(num_chains=50), Writer())
    assert len({chain for _, chain in model.calls}) == 50
    assert figures["auprc"] > 0.95 > 0.7 > figures["auprc_of_one_chain"]


def test_protocols_score_the_images_and_have_the_base_rates_that_they_say(data):
    model = Known(separating)
    figures = anomaly.run(model, data, config(), Writer())
    assert (figures["num_images"], figures["base_rate"]) == (40, 0.1)
    # 24 anomalies in all beside 20 % of the 216 normal images, scaled to the 36 of the test split.
    images, _ = model.calls[0]
    anomalies = label_of(images) == HELD_OUT
    assert (anomalies.sum(), (~anomalies).sum()) == (20, 36)
    assert figures["num_images_80_20"] == 56
    assert figures["base_rate_80_20"] == pytest.approx(24 / (24 + 0.2 * 216))
    training_rows = {row.tobytes() for row in data.train.images[data.train.labels != HELD_OUT]}
    assert not training_rows & {image.tobytes() for image in images}


def test_a_part_of_the_test_split_is_spread_over_it(data):
    settings = config(num_images=8)
    settings.data.exclude_labels = (5,)
    model = Known(separating)
    figures = anomaly.run(model, data, settings, Writer())
    assert figures["num_images"] == 8
    np.testing.assert_array_equal(label_of(model.calls[0][0])[:8], [0, 5, 0, 5, 0, 5, 0, 5])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data, config: config.task.anomaly.update({"num_images": 2}), "num_images"),
        (lambda data, config: data._replace(test=None), "test split"),
        (lambda data, config: data._replace(test=data.test._replace(labels=None)), "labels"),
    ],
    ids=["one kind only", "no test split", "no labels"],
)
def test_mistakes_are_one_line(data, change, named):
    settings = config()
    changed = change(data, settings) or data
    with pytest.raises(UserError, match=named):
        anomaly.run(Known(separating), changed, settings, Writer())


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("data", {"exclude_labels": ()}, "data.exclude_labels"),
        ("task", {"anomaly": {"num_chains": 0}}, "num_chains=0"),
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
    model = Known(lambda images: np.where(np.arange(len(images)) == 7, np.nan, 0.0))
    with pytest.raises(FloatingPointError, match="1 images is not finite"):
        anomaly.run(model, data, config(), Writer())


def test_config_holds_out_the_digit():
    config = experiment("mnist_anomaly", "digit=4")
    assert config.data.exclude_labels == (4,)
    with pytest.raises(UserError, match="digit=12"):
        experiment("mnist_anomaly", "digit=12")
