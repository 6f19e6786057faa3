"""CIFAR-10's Python batches and SVHN's MATLAB files, as torchvision downloads them."""

import errno
import hashlib

import numpy as np
import pytest

import lfbm_jax.data
from lfbm_jax.data import cifar10_batches, svhn_mat
from lfbm_jax.errors import UserError
from tests.builders import experiment
from tests.data import originals

FOLDER = cifar10_batches.FOLDER


@pytest.fixture
def prepare(tmp_path):
    """`prepare("svhn", folder)`: the cache by the config's variant that reads a folder."""

    def prepare(name, folder):
        data = experiment(name, "torchvision").data
        data.update({"dir": str(folder), "cache_dir": str(tmp_path / "cache")})
        return lfbm_jax.data.prepare(data)

    return prepare


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Made-up batches that pass as the originals: their folder and their content."""
    folder = tmp_path / "cifar10"
    folder.mkdir()
    written = originals.cifar10_batches(folder)
    monkeypatch.setattr(cifar10_batches, "MD5", originals.md5(folder / FOLDER, cifar10_batches.MD5))
    return folder, written


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    folder = tmp_path / "svhn"
    folder.mkdir()
    written = originals.svhn(folder)
    monkeypatch.setattr(svhn_mat, "MD5", originals.md5(folder, svhn_mat.MD5))
    return folder, written


def assert_is(split, written):
    images, labels = written
    np.testing.assert_array_equal(split.images, images)
    np.testing.assert_array_equal(split.labels, labels)


@pytest.mark.parametrize("inner", ["", FOLDER])
def test_cifar10_comes_back_as_written(prepare, cifar10, inner):
    folder, written = cifar10
    cache = prepare("cifar10", folder / inner)
    assert_is(cache.train, written["train"])
    assert_is(cache.held_out, written["test"])
    assert cache.held_out.name == "test"


def test_svhn_comes_back_as_written_without_the_extra_images(prepare, svhn, capsys):
    folder, written = svhn
    cache = prepare("svhn", folder)
    assert_is(cache.train, written["train"])
    assert_is(cache.held_out, written["test"])
    assert set(cache.train.labels) == set(range(10)), "10 stands for the digit 0"
    assert "left out: extra_32x32.mat" in capsys.readouterr().out


def test_all_files_that_are_missing_or_not_the_original_ones_are_named(prepare, cifar10, svhn):
    folder, _ = cifar10
    changed = folder / FOLDER / "data_batch_2"
    changed.write_bytes(changed.read_bytes() + b"more")
    (folder / FOLDER / "test_batch").write_text("<!DOCTYPE html><html>quota</html>")
    with pytest.raises(UserError) as raised:
        prepare("cifar10", folder)
    (line,) = str(raised.value).splitlines()
    assert "data_batch_2 is not the original file (its MD5 is" in line
    assert "test_batch is a web page" in line and "data_batch_1" not in line
    changed.unlink()
    (folder / FOLDER / "data_batch_5").unlink()
    with pytest.raises(UserError, match="lacks data_batch_2, data_batch_5: name cifar-10-batches"):
        prepare("cifar10", folder)

    folder, _ = svhn
    (folder / "test_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"lacks test_32x32\.mat: place"):
        prepare("svhn", folder)
    for name in ("cifar10", "svhn"):
        with pytest.raises(UserError, match=r"data\.dir is empty: name the folder"):
            prepare(name, "")


def test_the_known_checksums_are_torchvisions():
    datasets = pytest.importorskip("torchvision.datasets")  # of the extra `peers`
    listed = datasets.CIFAR10.train_list + datasets.CIFAR10.test_list
    assert dict(map(tuple, listed)) == cifar10_batches.MD5
    listed = [datasets.SVHN.split_list[split] for split in ("train", "test")]
    assert {name: md5 for _, name, md5 in listed} == svhn_mat.MD5


@pytest.mark.parametrize(
    ("name", "write", "files"),
    (
        ("cifar10", originals.cifar10_batches, ("data_batch_1", "test_batch")),
        ("svhn", originals.svhn, ("train_32x32.mat", "test_32x32.mat")),
    ),
)
def test_made_up_files_do_not_pass_for_the_original_ones(prepare, tmp_path, name, write, files):
    folder = tmp_path / name
    folder.mkdir()
    write(folder)
    first, last = (f"{file} is not the original file" for file in files)
    with pytest.raises(UserError, match=f"{first}.*{last}.*fetch"):
        prepare(name, folder)


def test_a_fault_that_passes_is_not_called_damage(prepare, svhn, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    folder, _ = svhn
    monkeypatch.setattr(hashlib, "file_digest", fail)
    with pytest.raises(UserError, match=r"train_32x32\.mat cannot be read.*may be intact"):
        prepare("svhn", folder)
