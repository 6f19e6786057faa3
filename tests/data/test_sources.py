"""Each source turns files of its format into the one uint8 cache."""

import gzip
import struct
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.images.batches import Batches
from lfbm_jax.images.cache import Split
from tests.builders import small_config


@pytest.fixture
def settings(tmp_path):
    """The data section of a config with its cache in a temporary folder."""
    section = small_config().data
    section.cache_dir = str(tmp_path / "cache")
    return section


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_images(folder, count, size=8, mode="RGB"):
    random = np.random.default_rng(count)
    shape = (size, size, 3) if mode == "RGB" else (size, size)
    for i in range(count):
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels, mode).save(folder / f"{i:03d}.png")


def test_embedded_digits_are_split_once_and_for_all(settings):
    settings.update({"source": "embedded", "name": "digits", "test_fraction": 1 / 6})
    first = prepare(settings)
    again = prepare(settings)
    assert len(first.train.images) + len(first.held_out.images) == 1797
    assert first.directory == again.directory
    np.testing.assert_array_equal(first.held_out.images, again.held_out.images)
    assert set(first.held_out.labels) == set(range(10))


def test_idx_files_come_back_as_written(settings, tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    written = {}
    for split, count in (("train", 7), ("t10k", 3)):
        written[split] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", written[split])
        labels = np.arange(count, dtype=np.uint8)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)
    settings.update({"source": "idx", "name": "mnist", "dir": str(folder), "image_size": 28})
    cache = prepare(settings)
    np.testing.assert_array_equal(cache.train.images[..., 0], written["train"])
    np.testing.assert_array_equal(cache.held_out.images[..., 0], written["t10k"])
    np.testing.assert_array_equal(cache.held_out.labels, [0, 1, 2])

    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="t10k-labels"):
        prepare(settings)


def test_real_mnist(settings, shared_data):
    settings.update(
        {"source": "idx", "name": "mnist", "dir": str(shared_data / "mnist"), "image_size": 28}
    )
    cache = prepare(settings)
    assert cache.train.images.shape == (60000, 28, 28, 1)
    assert cache.held_out.images.shape == (10000, 28, 28, 1)
    np.testing.assert_array_equal(cache.train.labels[:5], [5, 0, 4, 1, 9])


@pytest.mark.parametrize("archive", [False, True])
def test_image_folder_with_splits_and_classes(settings, tmp_path, archive):
    folder = tmp_path / "images"
    for split, name, count in (("train", "a", 3), ("train", "b", 2), ("test", "b", 4)):
        write_images(folder / split / name, count)
    place = folder
    if archive:
        place = tmp_path / "images.tar.xz"
        with tarfile.open(place, "w:xz") as tar:
            tar.add(folder, "images")
    settings.update({"source": "image_folder", "name": "x", "dir": str(place), "channels": 3})
    cache = prepare(settings)
    np.testing.assert_array_equal(cache.train.labels, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(cache.held_out.labels, [1, 1, 1, 1])
    first = np.asarray(Image.open(folder / "train" / "a" / "000.png"))
    np.testing.assert_array_equal(cache.train.images[0], first)


def test_bad_images_are_named(settings, tmp_path):
    folder = tmp_path / "images"
    write_images(folder, 2)
    settings.update({"source": "image_folder", "name": "x", "dir": str(folder), "channels": 3})
    grey = folder / "grey.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(grey)
    with pytest.raises(UserError, match=r"grey\.png"):
        prepare(settings)
    grey.unlink()
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"001\.png"):
        prepare(settings)
    (folder / "001.png").write_bytes(whole)
    assert len(prepare(settings).train.images) == 2


def test_truncated_cache_is_made_again(settings):
    settings.update({"source": "synthetic", "name": "x"})
    cache = prepare(settings)
    expected = np.array(cache.train.images)
    path = cache.directory / "images.npy"
    path.write_bytes(path.read_bytes()[:-10])
    np.testing.assert_array_equal(prepare(settings).train.images, expected)


def test_an_epoch_visits_every_image_once():
    images = np.zeros((23, 2, 2, 1), np.uint8)
    batches = Batches(Split(images, None), seed=1, batch_size=4)
    orders = []
    for epoch in range(2):
        calls = batches(epoch * batches.steps_per_epoch, batches.steps_per_epoch)
        seen = calls.index[calls.weight > 0]
        assert sorted(seen) == list(range(23))
        orders.append(seen.tolist())
    assert orders[0] != orders[1]
    np.testing.assert_array_equal(batches(2, 3).index[:, 1:2], batches(3, 1).index)


def test_images_kept_on_the_devices_are_the_same():
    images = np.random.default_rng(0).integers(0, 256, (23, 2, 2, 1), dtype=np.uint8)
    split = Split(images, None)
    on_host, on_device = (
        Batches(split, seed=1, batch_size=4, masks=255 - images, resident=resident)(3, 5)
        for resident in (False, True)
    )
    assert isinstance(on_device.image, jax.Array)
    for one, other in zip(on_host, on_device, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_mask_goes_with_its_image():
    images = np.random.default_rng(0).integers(0, 256, (23, 2, 2, 1), dtype=np.uint8)
    batch = Batches(Split(images, None), seed=1, batch_size=4, masks=255 - images)(3, 5)
    np.testing.assert_array_equal(batch.image, images[batch.index])
    np.testing.assert_array_equal(batch.mask, 255 - images[batch.index])
    assert Batches(Split(images, None), seed=1, batch_size=4)(3, 5).mask is None


def test_fewer_training_images_are_spread_over_all(settings):
    settings.update({"source": "embedded", "name": "digits", "test_fraction": 1 / 6})
    whole = prepare(settings)
    settings.num_train = 600
    fewer = prepare(settings)
    rows = np.arange(600) * len(whole.train.images) // 600
    np.testing.assert_array_equal(fewer.train.images, whole.train.images[rows])
    np.testing.assert_array_equal(fewer.train.labels, whole.train.labels[rows])
    assert len(fewer.held_out.images) == len(whole.held_out.images)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"num_train": -1}, "data.num_train=-1"),
        ({"mask": "center_box:8"}, "data.mask='center_box:8': hides all"),
    ],
)
def test_settings_that_no_source_can_meet(setting, named, settings):
    settings.update({"source": "synthetic", "name": "x", "test_fraction": 0.25} | setting)
    with pytest.raises(UserError, match=named):
        prepare(settings)
