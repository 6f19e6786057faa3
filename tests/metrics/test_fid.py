"""FID of a run, with a small function in the network's place; the network itself once, slowly."""

import errno
import json

import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.metrics import fid, frechet
from lfbm_jax.metrics.features import Extractor, Summary
from lfbm_jax.metrics.inception_weights import Weights
from tests import pytorch_writer
from tests.builders import small_config
from tests.metrics import random_inception

GENUINE = Weights("pt_inception.pth", "6726825d" + 56 * "0")


def corners(scale, x):
    return scale * jnp.stack([x[:, 0, 0, 0], x[:, 0, 0, 0] * x[:, 1, 1, 0]], axis=1)


@pytest.fixture
def config(tmp_path):
    config = small_config()
    config.metrics.inception_weights = str(tmp_path / "weights.pth")
    return config


@pytest.fixture
def data(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 3, 1), dtype=np.uint8)
    return Cache(Split(images, np.arange(30) % 3), None, tmp_path)


@pytest.fixture
def network(monkeypatch, tmp_path):
    """Counts how often it is loaded; `weights` may be changed."""
    network = {"loads": 0, "weights": GENUINE._replace(path=tmp_path / "pt_inception.pth")}

    def load(weights):
        network["loads"] += 1
        return Extractor(corners, np.float32(5), size=2, batch_size=7)

    monkeypatch.setattr(fid, "FEATURES", 2)
    monkeypatch.setattr(fid.inception_weights, "locate", lambda config: network["weights"])
    monkeypatch.setattr(fid.inception_weights, "load", load)
    return network


def direct(images):
    x = images.astype(float) / 127.5 - 1
    found = 5 * np.stack([x[:, 0, 0, 0], x[:, 0, 0, 0] * x[:, 1, 1, 0]], axis=1)
    return frechet.Gaussian(found.mean(axis=0), np.cov(found.T)), found


def test_distance_to_the_training_images(config, data, network, monkeypatch):
    """Complete sets of 20 and of 30 images, in place of 50,000 and of enough training images."""
    monkeypatch.setattr(fid, "NUM_IMAGES", 20)
    images = np.random.default_rng(1).integers(0, 200, (20, 3, 3, 1), dtype=np.uint8)
    figures, setting = fid.measure(config, data, np.split(images, [9]), 20)
    (one, features), (other, real) = direct(images), direct(data.train.images)
    assert figures["fid"] == pytest.approx(frechet.frechet_distance(one, other), rel=1e-5)
    expected = frechet.kernel_distance(np.float32(features), np.float32(real))[0]
    assert figures["kid"] == pytest.approx(expected, rel=1e-4)
    assert "kid_stddev" not in figures, "all 20 are in every subset: there is nothing to deviate"
    assert setting["fid_num_images"] == 20
    assert setting["fid_reference"] == "train split, 30 images (all)"
    assert setting["kid_subsets"] == "100 of 20 of 20 images, and of 30 of the reference"
    monkeypatch.setattr(fid, "NUM_IMAGES", 30)
    itself, _ = fid.measure(config, data, [data.train.images], 30)
    assert itself["fid"] == pytest.approx(0, abs=1e-6)


def test_few_images_or_other_ones_have_another_name(config, data, network, monkeypatch):
    """Only 50,000 images against all of sufficiently many training images give `fid`."""
    monkeypatch.setattr(fid, "KERNEL_SUBSET_SIZE", 5)
    images = data.train.images[:10]

    def names_and_reference(data=data):
        figures, setting = fid.measure(config, data, [images], 10)
        assert all(name.startswith(("fid", "kid", "kid_stddev")) for name in figures)
        ends = {name.removeprefix("fid") for name in figures if name.startswith("fid")}
        assert figures.keys() == {f"{kind}{end}" for kind in ("fid", "kid", "kid_stddev")
                                  for end in ends}
        return *ends, setting["fid_reference"]

    assert names_and_reference() == ("_of_10_images", "train split, 30 images (all)")
    monkeypatch.setattr(fid, "NUM_IMAGES", 10)
    assert names_and_reference()[0] == ""
    config.data.exclude_labels = (1,)
    expected = "_to_20_training_images", "train split, 20 images, without the classes 1"
    part = data._replace(train=Split(data.train.images[:20], None), selection="-without-1")
    assert names_and_reference(part) == expected
    config.data.update({"exclude_labels": (), "pooled_train_share": 0.8, "pooled_seed": 3})
    end, reference = names_and_reference(part._replace(selection="-pooled-0.8-seed-3"))
    assert end == "_to_20_training_images" and "0.8 of the pooled images, seed 3" in reference
    config.data.update({"pooled_train_share": 0.0, "num_train": 30})
    end, reference = names_and_reference()
    assert end == "_to_30_training_images" and "of the 30 that data.num_train takes" in reference
    config.data.num_train = 0
    monkeypatch.setattr(fid, "FEATURES", 31)  # More than images: their covariance is singular.
    monkeypatch.setattr(fid, "_load", Summary.load)
    assert names_and_reference()[0] == "_to_30_training_images"


def test_training_statistics_are_made_once_for_each_set_of_images(config, data, network):
    path = fid.training_statistics(config, data)
    np.testing.assert_allclose(np.load(path)["mu"], direct(data.train.images)[0].mean, atol=1e-5)
    assert fid.training_statistics(config, data) == path
    assert network["loads"] == 1
    kept = data.train.images[data.train.labels != 1]
    part = data._replace(train=Split(kept, None), selection="-without-1")
    other = fid.training_statistics(config, part)
    assert other != path
    np.testing.assert_allclose(np.load(other)["mu"], direct(kept)[0].mean, atol=1e-5)
    network["weights"] = network["weights"]._replace(sha256=64 * "a")
    assert fid.training_statistics(config, data) not in (path, other)
    fewer = data._replace(train=Split(data.train.images[:10], data.train.labels[:10]))
    assert fid.training_statistics(config, fewer) not in (path, other)


def test_statistics_of_another_program_have_no_kernel_distance(config, data, network, tmp_path):
    mean, covariance = np.array([1.0, -2.0]), np.diag([2.0, 3.0])
    path = tmp_path / "celeba.npz"
    np.savez(path, mu=mean, sigma=covariance)
    config.metrics.fid_statistics = str(path)
    images = data.train.images[:20]
    figures, setting = fid.measure(config, data, [images], 20)
    expected = frechet.frechet_distance(direct(images)[0], frechet.Gaussian(mean, covariance))
    assert figures == {"fid_of_20_images_to_given_statistics": pytest.approx(expected, rel=1e-4)}
    unknown = "number of images not known, data and split not known"
    assert setting["fid_reference"] == f"{path}: {unknown}"


def test_other_weights_make_no_fid(config, data, network):
    network["weights"] = network["weights"]._replace(sha256=64 * "a")
    figures, _ = fid.measure(config, data, [data.train.images], 30)
    assert all(name.endswith("_with_other_weights") for name in figures)


def test_what_cannot_be_measured_is_said_before(config, data, network, tmp_path):
    fid.check(config, 2)
    with pytest.raises(UserError, match="FID of 1 images"):
        fid.check(config, 1)
    for arrays in ({"mu": np.zeros(3), "sigma": np.eye(3)}, {"mu": np.zeros(2)}):
        np.savez(tmp_path / "statistics.npz", **arrays)
        config.metrics.fid_statistics = str(tmp_path / "statistics.npz")
        with pytest.raises(UserError, match=r"statistics\.npz.*mu \[2\] and sigma"):
            fid.check(config, 2)
    config.metrics.fid_statistics = str(tmp_path / "missing.npz")
    with pytest.raises(UserError, match="missing"):
        fid.check(config, 2)
    config.metrics.inception_weights = ""
    fid.check(config, 2)
    with pytest.raises(UserError, match=r"give the path of pt_inception\S+, or 'download'"):
        fid.training_statistics(config, data)


@pytest.mark.slow
def test_commands(run_python, tmp_path):
    """fid_stats, and the generate task on a smoke run, with the real network of random weights."""
    weights = tmp_path / "weights.pth"
    pytorch_writer.save(weights, random_inception.state_dict(), legacy=True)
    command = ["-m", "lfbm_jax.main", "--config=configs/cifar10.py:smoke"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    command += [f"--config.metrics.inception_weights={weights}", "--config.tasks=('generate',)"]
    printed = run_python([*command, "--mode=fid_stats"]).stdout.split()[-1]
    statistics = Summary.load(printed)
    assert statistics.gaussian.covariance.shape == (2048, 2048)
    assert statistics.num_images == len(statistics.features) == 144
    run_python(command)
    report = json.loads((tmp_path / "run" / "reports" / "generate.json").read_text())
    assert report["figures"]["fid_of_8_images_to_144_training_images_with_other_weights"] > 0
    assert "fid" not in report["figures"]
    assert report["setup"]["fid_num_images"] == 8
    assert report["setup"]["fid_reference"] == "train split, 144 images (all)"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = run_python([*command, "--mode=evaluate"], check=False)
    assert done.returncode == 2
    assert "weights.pth is not a complete file of torch.save" in done.stderr


def test_a_fault_while_statistics_are_read_is_not_called_a_bad_file(monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Summary, "load", fail)
    with pytest.raises(UserError, match=r"Input/output error.*may be intact"):
        fid._load("statistics.npz")
