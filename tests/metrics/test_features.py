"""Features of many images: on any number of devices, in chunks, and as a file."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.images.pixels import to_uint8
from lfbm_jax.metrics import features
from lfbm_jax.metrics.features import Extractor, Summary
from tests.rounding import assert_close


def moments_of_pixels(scale, x):
    return jnp.stack([scale * x.mean(axis=(1, 2, 3)), x[:, 0, 0, 0], x.std(axis=(1, 2, 3))], axis=1)


@pytest.fixture
def extractor():
    return Extractor(moments_of_pixels, np.float32(3), size=3, batch_size=4)


def made_up(count):
    return np.random.default_rng(0).integers(0, 256, (count, 5, 5, 1), dtype=np.uint8)


def test_features_of_every_image_in_order(extractor):
    images = made_up(11)
    found = np.concatenate(list(extractor(images)))
    x = images / 127.5 - 1
    expected = np.stack([3 * x.mean(axis=(1, 2, 3)), x[:, 0, 0, 0], x.std(axis=(1, 2, 3))], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_any_number_of_devices(run_python):
    program = """
        import numpy as np
        from lfbm_jax.metrics.features import Extractor
        from tests.metrics.test_features import made_up, moments_of_pixels

        extractor = Extractor(moments_of_pixels, np.float32(3), size=3, batch_size=4)
        print(np.concatenate(list(extractor(made_up(11)))).tolist())
    """
    one, three = (
        np.array(json.loads(run_python(program, devices=devices).stdout), np.float32)
        for devices in (1, 3)
    )
    assert_close(three, one, roundings=10)


def test_samples_are_seen_as_an_image_file_would_hold_them(extractor):
    x = np.random.default_rng(1).uniform(-1, 1, (4, 5, 5, 1)).astype(np.float32)
    for ours, stored in zip(extractor(x), extractor(to_uint8(x)), strict=True):
        np.testing.assert_array_equal(ours, stored)


@pytest.mark.parametrize(
    ("value", "error"),
    [(np.nan, FloatingPointError), (np.inf, FloatingPointError), (2, ValueError)],
)
def test_bad_images_are_errors(extractor, value, error):
    x = np.zeros((4, 5, 5, 1), np.float32)
    x[2, 1, 1, 0] = value
    with pytest.raises(error, match="images"):
        extractor(x)


def test_summary_is_that_of_all_features(extractor, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 7)
    monkeypatch.setattr(features, "KEPT", 5)
    images = made_up(23)
    rows = np.flatnonzero(np.arange(23) % 4 != 1)
    summary = Summary.of_array(extractor, images[rows])
    expected = np.concatenate(list(extractor(images[rows])))
    np.testing.assert_allclose(summary.gaussian.mean, expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(summary.gaussian.covariance, np.cov(expected.T), rtol=1e-5)
    assert summary.gaussian.covariance.dtype == np.float64
    assert summary.num_images == len(rows) == 17
    assert_close(summary.features, expected[::4], roundings=10)  # spread, five at most


def test_file_comes_back_and_others_can_read_it(extractor, tmp_path):
    summary = Summary.of(extractor, [made_up(9)], 9)
    path = tmp_path / "statistics.npz"
    summary.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["statistics.npz"]
    found = Summary.load(path)
    assert found.num_images == 9
    for ours, theirs in zip((*found.gaussian, found.features),
                            (*summary.gaussian, summary.features), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with np.load(path) as file:
        np.testing.assert_array_equal(file["mu"], summary.gaussian.mean)
        np.testing.assert_array_equal(file["sigma"], summary.gaussian.covariance)


def test_file_of_another_program(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez_compressed(path, mu=np.arange(3.0), sigma=np.eye(3))
    found = Summary.load(path)
    np.testing.assert_array_equal(found.gaussian.mean, [0, 1, 2])
    assert found.features.shape == (0, 3)
    np.savez_compressed(path, mu=np.arange(3.0), sigma=np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="finite"):
        Summary.load(path)
