"""Pictures: where every image is placed, and how its values are shown."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lfbm_jax.images.pixels import to_uint8
from lfbm_jax.reports import plots


def plain(values, size=4, channels=1):
    """Images of one value each."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values[:, None, None, None], (len(values), size, size, channels))


def cells(picture, rows, columns):
    """The value in the middle of every cell, [rows, columns, 3]."""

    def middles(length, count):
        pitch = (length - plots.GAP) // count
        return plots.GAP + np.arange(count) * pitch + (pitch - plots.GAP) // 2

    return picture[np.ix_(middles(picture.shape[0], rows), middles(picture.shape[1], columns))]


def test_to_uint8_undoes_the_scaling_of_images():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(values / 127.5 - 1), values)
    np.testing.assert_array_equal(
        to_uint8(values.astype(np.float32) / np.float32(127.5) - 1), values
    )


def test_to_uint8_clips():
    clipped = to_uint8(np.array([-7.0, -1.001, 1.001, 2.5]))
    np.testing.assert_array_equal(clipped, [0, 0, 255, 255])


def test_grid_runs_along_rows_and_leaves_the_rest_white():
    values = np.linspace(-1, 0.8, 7)
    picture = plots.grid(plain(values), columns=3)
    expected = np.append(to_uint8(values), [255, 255]).reshape(3, 3)
    np.testing.assert_array_equal(cells(picture, 3, 3), np.stack([expected] * 3, axis=-1))


def test_grid_separates_images_and_enlarges_by_a_whole_factor():
    picture = plots.grid(plain([-1.0] * 6, size=5), columns=3)
    factor = round(plots.TARGET_WIDTH / 15)
    side = 5 * factor
    assert picture.shape == (2 * side + 3 * plots.GAP, 3 * side + 4 * plots.GAP, 3)
    assert picture.dtype == np.uint8
    dark = np.zeros(picture.shape[:2], bool)
    for row in range(2):
        for column in range(3):
            top, left = (plots.GAP + i * (side + plots.GAP) for i in (row, column))
            dark[top : top + side, left : left + side] = True
    np.testing.assert_array_equal(picture[..., 0] == 0, dark)


def test_grid_keeps_every_pixel_and_channel():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 4, 3))
    picture = plots.grid(image)
    factor = round(plots.TARGET_WIDTH / 4)
    inside = picture[plots.GAP : -plots.GAP, plots.GAP : -plots.GAP]
    for corner in (0, factor - 1):
        corners = inside[corner::factor, corner::factor]
        np.testing.assert_array_equal(corners, to_uint8(image[0]))


def test_large_images_are_not_enlarged():
    picture = plots.grid(plain([0.0, 0.5], size=512), columns=2)
    assert picture.shape[:2] == (512 + 2 * plots.GAP, 1024 + 3 * plots.GAP)


@pytest.mark.parametrize("count", (1, 2, 4, 5, 16))
def test_grid_is_square_where_columns_are_not_given(count):
    picture = plots.grid(plain(np.full(count, -1.0)))
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    assert np.sum(cells(picture, rows, columns)[..., 0] == 0) == count


def test_pairs_put_originals_above_their_reconstructions():
    originals = np.linspace(-1, 1, 13)
    picture = plots.pairs(plain(originals), plain(-0.5 * originals), columns=5)
    # 13 is cut to two whole rows of 5.
    expected = [originals[:5], -0.5 * originals[:5], originals[5:10], -0.5 * originals[5:10]]
    np.testing.assert_array_equal(cells(picture, 4, 5)[..., 0], to_uint8(np.stack(expected)))


def test_pairs_of_less_than_a_row():
    picture = plots.pairs(plain([-1.0, 0.0]), plain([0.5, 0.6]), columns=10)
    expected = to_uint8(np.array([[-1.0, 0.0], [0.5, 0.6]]))
    np.testing.assert_array_equal(cells(picture, 2, 2)[..., 0], expected)


def test_save_writes_the_picture_into_a_new_folder(tmp_path):
    picture = plots.grid(plain([-1.0, 0.2, 1.0]))
    path = plots.save(picture, tmp_path / "samples" / "1.png")
    assert path == tmp_path / "samples" / "1.png"
    with Image.open(path) as read:
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_drawn_is_the_figure_without_transparency():
    figure = Figure(figsize=(2, 1), dpi=50, facecolor=(1, 0, 0))
    picture = plots.drawn(figure)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.broadcast_to([255, 0, 0], (50, 100, 3)))
