"""NumPy files with arrays of images."""

import numpy as np
import pytest

import lfbm_jax.data
from lfbm_jax.errors import UserError
from tests.builders import small_config

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (5, 8, 8), dtype=np.uint8)
LABELS = np.arange(7) % 3


@pytest.fixture
def prepare(tmp_path):
    """`prepare(images=..., labels=...)`: the cache of a file with these arrays."""

    def prepare(settings=(), **arrays):
        path = tmp_path / "images.npz"
        np.savez_compressed(path, **arrays)
        return prepare_file(path, settings)

    def prepare_file(path, settings=()):
        data = small_config().data
        data.update({"source": "npz", "name": "x", "dir": str(path), "channels": 3})
        data.update({"cache_dir": str(tmp_path / "cache")} | dict(settings))
        return lfbm_jax.data.prepare(data)

    prepare.file = prepare_file
    return prepare


def test_images_and_labels_come_back(prepare):
    cache = prepare(images=COLOUR, labels=LABELS)
    np.testing.assert_array_equal(cache.train.images, COLOUR)
    np.testing.assert_array_equal(cache.train.labels, LABELS)
    assert cache.held_out is None
    cache = prepare({"test_fraction": 2 / 7}, images=COLOUR)
    assert (len(cache.train.images), len(cache.held_out.images)) == (5, 2)
    assert cache.train.labels is None


@pytest.mark.parametrize("order", ["{split}_{word}", "{word}_{split}"])
def test_splits_by_the_names_of_arrays(prepare, order, capsys):
    """The names of MedMNIST's and Keras' files, whose labels have a second axis or none."""
    arrays = {"mean": np.zeros(3)}
    for start, split in enumerate(("train", "val", "test")):
        arrays[order.format(split=split, word="x")] = COLOUR[start : start + 4]
        arrays[order.format(split=split, word="y")] = LABELS[start : start + 4, None]
    words = {"image_field": "x", "label_field": "y"}
    cache = prepare(words, **arrays)
    np.testing.assert_array_equal(cache.train.images, COLOUR[:4])
    np.testing.assert_array_equal(cache.held_out.images, COLOUR[2:6])
    np.testing.assert_array_equal(cache.held_out.labels, LABELS[2:6])
    val = [order.format(split="val", word=word) for word in "xy"]
    assert f"left out: mean, {', '.join(val)}" in capsys.readouterr().out
    for word in "xy":
        del arrays[order.format(split="test", word=word)]
    cache = prepare(words, **arrays)
    np.testing.assert_array_equal(cache.held_out.images, COLOUR[1:5])
    assert cache.held_out.name == "val"


@pytest.mark.parametrize("images", [GREY, GREY[..., None]])
def test_grey_images_with_an_axis_of_channels_or_without(prepare, images):
    cache = prepare({"channels": 1}, images=images)
    np.testing.assert_array_equal(cache.train.images, GREY[..., None])
    with pytest.raises(UserError, match=r"image 0 of .*: images is of mode L.*convert=true"):
        prepare(images=images)
    converted = prepare({"convert": True}, images=images)
    np.testing.assert_array_equal(converted.train.images, np.repeat(GREY[..., None], 3, -1))


def test_other_words_make_another_cache(prepare, tmp_path):
    """The file, its size and its time stay the same."""
    first = prepare(images=COLOUR[:3], other=COLOUR[3:])
    second = prepare.file(tmp_path / "images.npz", {"image_field": "other"})
    assert first.directory != second.directory
    np.testing.assert_array_equal(second.train.images, COLOUR[3:])


@pytest.mark.parametrize(
    ("arrays", "settings", "said"),
    [
        ({"pictures": COLOUR}, {}, "no array images or train_images, only pictures: name the"),
        ({"test_images": COLOUR}, {}, "no array images or train_images, only test_images"),
        ({"images": COLOUR}, {"image_field": "img"}, "no array img or train_img, only images"),
        ({"images": COLOUR}, {"label_field": "y"}, "data.label_field='y': .*has no such array"),
        ({"images": COLOUR / 255}, {}, "images is float64, not uint8"),
        ({"images": np.moveaxis(COLOUR, -1, 1)}, {}, r"the shape \(7, 3, 8, 8\), not \[N, H, W"),
        ({"images": COLOUR, "labels": LABELS[:3]}, {}, r"labels is int64 of shape \(3,\)"),
        ({"images": COLOUR, "labels": LABELS / 2}, {}, "labels is float64"),
        ({"images": COLOUR[:, :6]}, {}, "not square.*data.crop"),
        ({"images": np.array([None])}, {}, "arrays of objects"),
        (
            {"train_images": COLOUR / 255, "test_images": GREY, "train_labels": LABELS},
            {},
            "train_images is float64.*; test_images has no labels, as others have",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(prepare, arrays, settings, said):
    with pytest.raises(UserError, match=said) as raised:
        prepare(settings, **arrays)
    assert "\n" not in str(raised.value)


def test_what_is_no_such_file(prepare, tmp_path):
    with pytest.raises(UserError, match=r"data\.dir='' is not a file"):
        prepare.file("")
    with pytest.raises(UserError, match=r"is not a file: name an \.npz"):
        prepare.file(tmp_path)
    path = tmp_path / "images.npz"
    np.savez(path, images=COLOUR)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[600] ^= 1
    for content, said in (
        (whole[:-40], "truncated or not an .npz file"),
        (b"<html>quota</html>", "a web page"),
        (bytes(damaged), "damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            prepare.file(path)
