"""The splits are those of the settings: every image in one of them, by the published counts."""

import numpy as np
import pytest

from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.images import cache, selection
from lfbm_jax.images.batches import Batches
from lfbm_jax.metrics import classifier, fid
from lfbm_jax.metrics.inception_weights import Weights
from tests.builders import small_config

MNIST_CLASSES = (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)  # all 70,000 images
# Held-out digit -> images scored and base rate, of the published protocol.
PUBLISHED = {
    1: (20_302, 0.388),
    4: (19_460, 0.351),
    5: (19_051, 0.331),
    7: (19_835, 0.368),
    9: (19_567, 0.356),
}


def filled(folder, labels, train):
    """A config's data section, and its cache of 2 x 2 images that encode their own number."""
    data = small_config().data
    data.update({"source": "synthetic", "name": "numbers", "cache_dir": str(folder)})
    data.update({"image_size": 2})
    split = np.where(np.arange(len(labels)) < train, "train", "test")
    images = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 2, 2, 1)
    keys = zip(split.tolist(), labels, strict=True)
    reading = cache.Reading(zip(keys, images, strict=True), cache.by_split, len(labels))
    return data, cache.fill(data, (), lambda: reading)


def numbers(split):
    """The numbers of a split's images."""
    return np.asarray(split.images).reshape(-1, 4).copy().view("<u4")[:, 0]


@pytest.fixture(scope="module")
def mnist_like(tmp_path_factory):
    """As many labels of each digit as in MNIST, in another order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), MNIST_CLASSES))
    return filled(tmp_path_factory.mktemp("cache"), labels.tolist(), 60_000)


@pytest.fixture
def few(tmp_path):
    """240 images of ten classes, 200 of them of the training split."""
    return filled(tmp_path, [i % 10 for i in range(240)], 200)


def assert_published(data, found, digit):
    scored, base_rate = PUBLISHED[digit]
    assert len(found.held_out.images) + len(found.excluded.images) == scored
    assert round(len(found.excluded.images) / scored, 3) == base_rate
    assert len(found.train.images) + scored == 70_000
    assert set(found.excluded.labels) == {digit}
    assert set(found.train.labels) == set(found.held_out.labels) == set(range(10)) - {digit}


@pytest.mark.parametrize("digit", PUBLISHED)
def test_published_counts(mnist_like, digit):
    data, every = mnist_like
    data.update({"exclude_labels": (digit,), "pooled_train_share": 0.8})
    assert_published(data, selection.select(every, data), digit)


def test_published_counts_of_the_real_mnist(shared_data, tmp_path):
    data = small_config().data
    data.update({"source": "idx", "name": "mnist", "dir": str(shared_data / "mnist")})
    data.update({"image_size": 28, "cache_dir": str(tmp_path), "pooled_train_share": 0.8})
    for digit in PUBLISHED:
        data.exclude_labels = (digit,)
        assert_published(data, prepare(data), digit)
    assert len(list(tmp_path.glob("**/images.npy"))) == 1, "the images are there once"


@pytest.mark.parametrize("labels", [(), (3,), (3, 7)])
def test_pooled_splits_hold_every_image_once(few, labels):
    data, every = few
    data.update({"exclude_labels": labels, "pooled_train_share": 0.7})
    found = selection.select(every, data)
    assert (found.train.name, found.held_out.name) == ("train", "pooled 70/30")
    normal = 240 - 24 * len(labels)
    assert len(found.train.images) == int(0.7 * normal)
    held_out = [found.held_out] + ([found.excluded] if labels else [])
    assert labels or found.excluded is None
    parts = [found.train, *held_out]
    assert sorted(np.concatenate([numbers(part) for part in parts])) == list(range(240))
    for part in parts:
        np.testing.assert_array_equal(part.labels, numbers(part) % 10)
    assert max(numbers(found.train)) >= 200, "images of the test split train"
    data.pooled_seed = 1
    other = selection.select(every, data)
    assert set(numbers(other.held_out)) != set(numbers(found.held_out))
    data.pooled_seed = 0
    again = selection.select(every, data)
    np.testing.assert_array_equal(numbers(again.held_out), numbers(found.held_out))


def test_the_sources_splits_without_a_class(few):
    data, every = few
    assert selection.select(every, data) is every
    data.exclude_labels = (3, 5)
    found = selection.select(every, data)
    left_out = np.isin(np.arange(240) % 10, (3, 5))
    for part, rows in (
        (found.train, np.flatnonzero(~left_out[:200])),
        (found.held_out, 200 + np.flatnonzero(~left_out[200:])),
        (found.excluded, 200 + np.flatnonzero(left_out[200:])),
    ):
        np.testing.assert_array_equal(numbers(part), rows)
    data.num_train = 40
    fewer = selection.select(every, data)
    np.testing.assert_array_equal(numbers(fewer.train), numbers(found.train)[::4])


@pytest.mark.parametrize("resident", [False, True])
def test_training_sees_every_image_that_is_not_held_out_and_no_other(few, resident):
    data, every = few
    data.update({"exclude_labels": (3,), "pooled_train_share": 0.8})
    found = selection.select(every, data)
    batches = Batches(found.train, seed=0, batch_size=7, resident=resident)
    seen = batches(0, batches.steps_per_epoch)
    images = np.asarray(seen.image)[np.asarray(seen.weight) > 0]
    assert sorted(images.reshape(-1, 4).copy().view("<u4")[:, 0]) == sorted(numbers(found.train))
    spread = batches.spread(5)
    np.testing.assert_array_equal(spread.image, found.train.images[spread.index])


def test_what_is_kept_of_training_images_is_kept_for_each_selection(few, monkeypatch):
    """FID statistics and classifiers are in the same cache, under different names."""
    data, every = few
    config = small_config()
    config.metrics.inception_weights = "given"
    weights = Weights("weights.pth", 64 * "0")
    monkeypatch.setattr(fid.inception_weights, "locate", lambda config: weights)
    monkeypatch.setattr(fid.inception_weights, "load", lambda weights: None)
    trained, summarized = [], []

    def train(network, images, labels, rows, num_epochs):
        assert len(rows) == len(images), "every image has a label"
        trained.append(set(numbers(cache.Split(images, labels))))
        return {"a": np.zeros(1)}

    class Summary:
        def __init__(self, chunks):
            self.seen = {tuple(image.ravel()) for chunk in chunks for image in chunk}

        def save(self, path):
            summarized.append(self.seen)
            path.touch()

    monkeypatch.setattr(classifier, "_train", train)
    monkeypatch.setattr(fid.Summary, "of", lambda extractor, chunks, total: Summary(chunks))
    settings = [{}, {"exclude_labels": (3,)}, {"exclude_labels": (4,)}]
    pooled = {"exclude_labels": (3,), "pooled_train_share": 0.8}
    settings += [pooled, pooled | {"pooled_seed": 1}]
    for setting in settings:
        data.update({"exclude_labels": (), "pooled_train_share": 0.0, "pooled_seed": 0} | setting)
        found = selection.select(every, data)
        config.data.update(data)
        for _ in range(2):
            classifier.of_training_images(found, 1)
            fid.training_statistics(config, found)
        assert trained[-1] == set(numbers(found.train))
        assert summarized[-1] == {tuple(image.ravel()) for image in np.asarray(found.train.images)}
    assert len(trained) == len(summarized) == len(settings)


def test_rows_are_those_of_the_array():
    array = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 1), dtype=np.uint8)
    rows = np.array([7, 1, 4, 8])
    view, expected = selection.Rows(array, rows), array[rows]
    assert (view.shape, view.dtype, view.nbytes) == ((4, 2, 3, 1), np.uint8, expected.nbytes)
    assert len(view) == 4
    for index in (2, slice(1, 3), slice(None, None, 2), [3, 0], np.array([[0, 1], [2, 3]])):
        np.testing.assert_array_equal(view[index], expected[index])
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_array_equal(np.mean(view, axis=0), expected.mean(axis=0))
    assert [image.tolist() for image in view] == expected.tolist()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"pooled_train_share": 1.0}, r"data\.pooled_train_share=1\.0: use a share"),
        ({"pooled_train_share": -0.1}, r"data\.pooled_train_share=-0\.1: use a share"),
        ({"pooled_train_share": 0.001}, r"data\.pooled_train_share=0\.001 of 192 images leaves"),
        ({"pooled_seed": -1}, r"data\.pooled_seed=-1"),
        ({"exclude_labels": (10,)}, r"data\.exclude_labels: the data has no label 10"),
        ({"exclude_labels": tuple(range(10))}, "no image is left to train on"),
        (
            {"exclude_labels": tuple(range(10)), "pooled_train_share": 0.8},
            "of 0 images leaves a split empty",
        ),
    ],
)
def test_settings_that_make_no_sense(setting, named, tmp_path):
    data = small_config().data
    data.update({"source": "synthetic", "name": "x", "cache_dir": str(tmp_path)} | setting)
    with pytest.raises(UserError, match=named):
        prepare(data)


def test_images_without_labels(tmp_path):
    data, every = filled(tmp_path, [None] * 10, 10)
    data.exclude_labels = (1,)
    with pytest.raises(UserError, match=r"data\.exclude_labels=\(1,\): the data has no labels"):
        selection.select(every, data)
    data.update({"exclude_labels": (), "pooled_train_share": 0.8})
    found = selection.select(every, data)
    assert found.train.labels is None
    assert (len(found.train.images), len(found.held_out.images), found.excluded) == (8, 2, None)


def test_a_report_states_the_selection():
    data = small_config().data
    assert selection.setting(data) == {}
    data.exclude_labels = (3,)
    assert selection.setting(data) == {"exclude_labels": (3,)}
    data.update({"pooled_train_share": 0.8, "pooled_seed": 5})
    stated = {"exclude_labels": (3,), "pooled_train_share": 0.8, "pooled_seed": 5}
    assert selection.setting(data) == stated
    data.num_train = 100
    assert selection.setting(data) == stated | {"num_train": 100}
