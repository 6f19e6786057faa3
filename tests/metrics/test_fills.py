"""The simple fills against their definitions, pixel by pixel."""

import numpy as np
import pytest

from lfbm_jax.metrics import fills

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (7, 5, 6, 2), dtype=np.uint8)
MASKS = RANDOM.integers(0, 2, (7, 5, 6, 1), dtype=np.uint8)
MASKS[:, 2, 3] = 0
X = IMAGES / 127.5 - 1


@pytest.fixture(autouse=True)
def _blocks(monkeypatch):
    monkeypatch.setattr(fills, "BLOCK", 3)


def test_mean_image():
    np.testing.assert_allclose(fills.mean_image(IMAGES), X.mean(axis=0), rtol=1e-12, atol=1e-12)
    found = fills.mean_image(IMAGES, lambda index: MASKS[index])
    seen = np.broadcast_to(MASKS == 1, X.shape)
    for place in np.ndindex(X.shape[1:]):
        everywhere = X[..., place[2]][seen[..., place[2]]]
        visible = X[:, *place][seen[:, *place]] if seen[:, *place].any() else everywhere
        assert found[place] == pytest.approx(visible.mean(), abs=1e-12), place


def test_nearest_images_look_at_visible_pixels_only():
    wanted = RANDOM.permutation(7)[:4]
    masks = MASKS[:4]
    others = RANDOM.integers(0, 256, IMAGES[wanted].shape, dtype=np.uint8)
    images = np.where(masks == 1, IMAGES[wanted] ^ 1, others)
    np.testing.assert_array_equal(fills.nearest(images, masks, IMAGES), wanted)
    images = RANDOM.integers(0, 256, (61, *X.shape[1:]), dtype=np.uint8)
    masks = RANDOM.integers(0, 2, (61, *MASKS.shape[1:]))
    x = images / 127.5 - 1
    distances = np.sum(masks[:, None] * (x[:, None] - X[None]) ** 2, axis=(2, 3, 4))
    found = fills.nearest(images, masks, IMAGES)
    np.testing.assert_array_equal(found, distances.argmin(axis=1))


def test_an_image_that_is_searched_is_not_its_own_neighbour(monkeypatch):
    monkeypatch.setattr(fills, "BLOCK", 3)
    own = np.array([5, 0, 2])
    x = IMAGES / 127.5 - 1
    distances = np.sum(MASKS[own][:, None] * (x[own][:, None] - x[None]) ** 2, axis=(2, 3, 4))
    distances[np.arange(3), own] = np.inf
    found = fills.nearest(IMAGES[own], MASKS[own], IMAGES, own)
    np.testing.assert_array_equal(found, distances.argmin(axis=1))


def ramp(shape=(9, 8)):
    rows, columns = np.indices(shape)
    return np.stack([0.1 * rows - 0.05 * columns, 0.02 * columns + 0.3], axis=-1)[None]


def test_bilinear_fill_continues_a_ramp():
    x, visible = ramp(), (RANDOM.uniform(size=(1, 9, 8, 1)) < 0.5).astype(np.uint8)
    visible[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 1  # All pixels are between the corners.
    found = fills.bilinear(x * visible, visible)
    np.testing.assert_allclose(found, x, atol=1e-12)


def test_bilinear_fill_takes_the_nearest_pixel_outside_of_what_is_visible():
    x, visible = ramp((3, 3)), np.zeros((1, 3, 3, 1), np.uint8)
    visible[0, 0, :2] = 1  # On a line: no triangle.
    found = fills.bilinear(x * visible, visible)
    np.testing.assert_array_equal(found[0, :, 0], x[0, [0, 0, 0], 0])
    np.testing.assert_array_equal(found[0, :, 2], x[0, [0, 0, 0], 1])


def test_median_fill_is_the_median_of_the_smallest_square_with_a_visible_pixel():
    visible = np.ones((1, 7, 7, 1), np.uint8)
    visible[0, 1:6, 1:6] = 0
    x = RANDOM.uniform(-1, 1, (1, 7, 7, 2))
    found = fills.median(x * visible, visible)
    np.testing.assert_array_equal(found[visible[..., 0] == 1], x[visible[..., 0] == 1])
    corner = [x[0, i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0))]
    np.testing.assert_allclose(found[0, 1, 1], np.median(corner, axis=0))
    rim = np.concatenate([x[0, 0], x[0, 6], x[0, 1:6, 0], x[0, 1:6, 6]])
    np.testing.assert_allclose(found[0, 3, 3], np.median(rim, axis=0))
