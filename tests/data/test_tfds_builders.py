"""The real TFDS builders of SVHN, CIFAR-10 and CelebA read small files in the original layout.

Only the checksums on record are changed to those of the small files. The configs, our preparation
and the builders are the same as for the original files.
"""

import json

import numpy as np
import pytest
from PIL import Image

import lfbm_jax.data
from lfbm_jax.errors import UserError
from tests.builders import experiment
from tests.data import originals

pytest.importorskip("tensorflow_datasets", reason="needs pip install 'lfbm_jax[tfds]'")


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """(config's name, writer of the files, overrides) -> what was written, and the cache."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # which refuses at once
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    def prepare(config, write, **overrides):
        folder = tmp_path / "originals"
        folder.mkdir(exist_ok=True)
        written = write(folder)
        data = experiment(config).data
        originals.record_checksums(monkeypatch, data.name, folder)
        data.update({"manual_dir": str(folder), "cache_dir": str(tmp_path / "cache")} | overrides)
        return written, lfbm_jax.data.prepare(data)

    return prepare


def labels_by_image(images, labels):
    """Image -> label: TFDS shuffles the order of the examples."""
    pairs = {bytes(image): int(label) for image, label in zip(images, labels, strict=True)}
    assert len(pairs) == len(images)
    return pairs


def classes(cache):
    return json.loads((cache.directory / "manifest.json").read_text())["classes"]


def test_svhn(prepare):
    """Class 10 in the files is the digit 0, and the split `extra` is not read."""
    written, cache = prepare("svhn", originals.svhn)
    assert cache.evaluated.name == "test"
    for split, found in (("train", cache.train), ("test", cache.held_out)):
        assert found.images.dtype == np.uint8 and found.images.shape[1:] == (32, 32, 3)
        assert labels_by_image(found.images, found.labels) == labels_by_image(*written[split])
    assert 0 in cache.train.labels and classes(cache) == [str(digit) for digit in range(10)]


def test_cifar10(prepare):
    written, cache = prepare("cifar10", originals.cifar10)
    assert cache.evaluated.name == "test"
    for split, found in (("train", cache.train), ("test", cache.held_out)):
        assert labels_by_image(found.images, found.labels) == labels_by_image(*written[split])
    assert classes(cache) == list(originals.CIFAR_CLASSES)


def test_celeba(prepare):
    """The validation images are held out, rows 45 ... 172 and columns 25 ... 152 of each."""
    written, cache = prepare("celeba64", originals.celeba, image_size=128)
    assert cache.held_out.name == "validation"
    assert cache.train.labels is cache.held_out.labels is None
    for found in (cache.train, cache.held_out):
        cropped = written[found.name][:, 45:173, 25:153]
        assert sorted(map(bytes, found.images)) == sorted(map(bytes, cropped))


def test_celeba_at_the_papers_size(prepare):
    """Pillow's bilinear filter, antialiased, after the crop."""
    written, cache = prepare("celeba64", originals.celeba)
    for split, found in (("train", cache.train), ("validation", cache.held_out)):
        small = [
            np.asarray(Image.fromarray(image[45:173, 25:153]).resize((64, 64), Image.BILINEAR))
            for image in written[split]
        ]
        assert sorted(map(bytes, found.images)) == sorted(map(bytes, small))


PAGE = b"<!DOCTYPE html><html>Too many users have viewed this file</html>"


def test_all_files_that_are_not_the_original_ones_are_named_at_once(prepare, tmp_path):
    """A quota page under an archive's name, a truncated file, a missing one; nothing is hashed."""
    data = experiment("celeba64").data
    folder = tmp_path / "other"
    folder.mkdir()
    data.update({"manual_dir": str(folder), "cache_dir": str(tmp_path / "cache")})
    (folder / "img_align_celeba.zip").write_bytes(PAGE)
    (folder / "identity_CelebA.txt").write_bytes(b"000001.jpg 2880\n")
    with pytest.raises(UserError) as caught:
        lfbm_jax.data.prepare(data)
    message = str(caught.value)
    assert message.count("\n") == 0 and "data.manual_dir=" in message
    assert "img_align_celeba.zip is a web page" in message
    assert "identity_CelebA.txt is truncated: it has 16 bytes, the original 3,424,458" in message
    missing = message.partition("missing: ")[2]
    assert sorted(missing.split(", ")) == [
        "list_attr_celeba.txt", "list_eval_partition.txt", "list_landmarks_align_celeba.txt"
    ]  # fmt: skip


def test_another_file_of_the_same_size_is_refused_by_its_checksum(prepare, tmp_path):
    def spoilt(folder):
        path = folder / "test_32x32.mat"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    data = experiment("svhn").data
    folder = tmp_path / "originals"
    folder.mkdir()
    originals.svhn(folder)
    with pytest.MonkeyPatch.context() as patch:
        originals.record_checksums(patch, data.name, folder)
        spoilt(folder)
        data.update({"manual_dir": str(folder), "cache_dir": str(tmp_path / "cache")})
        with pytest.raises(UserError, match=r"test_32x32\.mat.* has wrong checksum"):
            lfbm_jax.data.prepare(data)


def test_another_split_is_held_out_or_refused(prepare):
    written, cache = prepare("celeba64", originals.celeba, test_split="test")
    assert cache.evaluated.name == "test"
    assert len(cache.held_out.images) == len(written["test"])
    assert cache.held_out.images.shape[1:] == (64, 64, 3)
    _, cache = prepare("celeba64", originals.celeba, test_split="", test_fraction=0.25)
    assert (len(cache.train.images), len(cache.held_out.images)) == (3, 1)
    assert cache.evaluated.name == "1 of 4 images, held out"
    for split in ("valid", "train"):
        named = rf"data.test_split='{split}' .* celeb_a .* use validation, test, ''"
        with pytest.raises(UserError, match=named):
            prepare("celeba64", originals.celeba, test_split=split)
