"""Masks: which pixels each kind hides, what they depend on, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from tests.builders import small_config

SIDE = 16


def hidden(text, seed=3, index=(0,), side=SIDE):
    """bool [N, H, W], True where a pixel is hidden."""
    found = masks.parse(text, side, "data.mask")(seed, np.array(index))
    assert found.dtype == np.uint8 and found.shape == (len(index), side, side, 1)
    assert set(np.unique(found)) == {0, 1}
    return found[..., 0] == 0


def box(top, left, height, width, side=SIDE):
    rows, columns = np.indices((side, side))
    return (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)


@pytest.mark.parametrize(
    ("text", "side", "expected"),
    [
        ("center_box:6", 16, (5, 5, 6, 6)),
        ("center_box:5", 16, (5, 5, 5, 5)),
        ("center_box", 64, (12, 12, 40, 40)),  # Table 3
        ("box:4,1,3,12", 16, (4, 1, 3, 12)),
        ("box: 0, 0, 16, 1", 16, (0, 0, 16, 1)),
    ],
)
def test_boxes_are_where_they_should_be(text, side, expected):
    found = hidden(text, index=(0, 9), side=side)
    for one in found:
        np.testing.assert_array_equal(one, box(*expected, side=side))


def test_random_boxes_are_squares_that_reach_every_place():
    found = hidden("random_box:13", index=range(400))
    places = set()
    for one in found:
        rows, columns = np.nonzero(one)
        top, left = rows.min(), columns.min()
        np.testing.assert_array_equal(one, box(top, left, 13, 13))
        places.add((top, left))
    assert places == {(top, left) for top in range(4) for left in range(4)}


@pytest.mark.parametrize(("share", "count"), [("0.3", 77), ("0.5", 128), ("0.7", 179)])
def test_salt_and_pepper_hides_its_share_evenly(share, count):
    found = hidden(f"salt_and_pepper:{share}", index=range(2000))
    np.testing.assert_array_equal(found.sum(axis=(1, 2)), count)
    spread = np.sqrt(float(share) * (1 - float(share)) / 2000)
    np.testing.assert_allclose(found.mean(axis=0), count / SIDE**2, atol=5 * spread)


@pytest.mark.parametrize("text", ["random_box:5", "salt_and_pepper:0.5"])
def test_a_mask_depends_on_seed_and_index_only(text):
    together = hidden(text, index=(7, 2, 5))
    np.testing.assert_array_equal(hidden(text, index=(5,))[0], together[2])
    assert np.any(together[0] != together[1])
    assert np.any(hidden(text, seed=4, index=(7,))[0] != together[0])


def test_white_pixels_of_a_picture_are_visible(tmp_path):
    expected = np.random.default_rng(0).uniform(size=(SIDE, SIDE)) < 0.5
    path = tmp_path / "a:b.png"
    Image.fromarray(np.where(expected, 10, 250).astype(np.uint8)).convert("RGB").save(path)
    np.testing.assert_array_equal(hidden(f"png:{path}")[0], expected)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("centre_box:4", "use one of center_box:SIDE"),
        ("center_box:x", "a whole number must follow"),
        ("center_box:2,3", "a whole number must follow"),
        ("center_box:17", "must be within 16 x 16"),
        ("center_box:16", "hides all pixels"),
        ("box:1,2,3", "4 whole numbers"),
        ("box:-1,0,3,3", "4 whole numbers"),
        ("box:10,0,7,3", "must be within"),
        ("box:0,10,3,7", "must be within"),
        ("box:0,0,0,3", "must be within"),
        ("box:0,0,3,0", "must be within"),
        ("random_box", "a whole number must follow"),
        ("random_box:0", "must be within"),
        ("random_box:16", "hides all pixels"),
        ("salt_and_pepper:0", "between 0 and 1"),
        ("salt_and_pepper:1", "between 0 and 1"),
        ("salt_and_pepper:1.5", "between 0 and 1"),
        ("salt_and_pepper:nan", "between 0 and 1"),
        ("salt_and_pepper:half", "could not convert"),
        ("salt_and_pepper:0.0001", "hides no pixel"),
        ("png:nowhere.png", "cannot be read"),
        ("png:", "cannot be read"),
    ],
)
def test_mistakes_are_named_in_one_line(text, named):
    with pytest.raises(UserError, match=named) as caught:
        masks.parse(text, SIDE, "data.mask")
    assert str(caught.value).startswith(f"data.mask={text!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "value", "named"), [((16, 15), 255, "is 16 x 15"), ((16, 16), 0, "hides all pixels")]
)
def test_pictures_that_are_no_mask(size, value, named, tmp_path):
    path = tmp_path / "mask.png"
    Image.new("L", size, value).save(path)
    with pytest.raises(UserError, match=named):
        masks.parse(f"png:{path}", SIDE, "data.mask")


def test_text_that_is_no_picture(tmp_path):
    path = tmp_path / "mask.png"
    path.write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        masks.parse(f"png:{path}", SIDE, "data.mask")


def test_training_images_have_the_masks_of_the_config_and_its_seed():
    config = small_config()
    assert masks.of_training_images(config, np.arange(3)) is None
    config.seed = 4
    config.data.mask = "salt_and_pepper:0.5"
    expected = masks.parse(config.data.mask, 8, "data.mask")(4, np.arange(3))
    np.testing.assert_array_equal(masks.of_training_images(config, np.arange(3)), expected)


def test_kept_masks_must_be_the_same(tmp_path):
    path = tmp_path / "masks.npy"
    found = masks.parse("salt_and_pepper:0.5", SIDE, "data.mask")(0, np.arange(4))
    masks.keep(found, path)
    np.testing.assert_array_equal(np.load(path), found)
    masks.keep(found, path)
    with pytest.raises(UserError, match="holds other masks"):
        masks.keep(1 - found, path)
    assert [file.name for file in tmp_path.iterdir()] == ["masks.npy"]


@pytest.mark.parametrize("size", (0, 40, 200))
def test_damaged_masks_are_said_and_left_alone(size, tmp_path):
    path = tmp_path / "masks.npy"
    found = masks.parse("salt_and_pepper:0.5", SIDE, "data.mask")(0, np.arange(4))
    masks.keep(found, path)
    path.write_bytes(damaged := path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"masks\.npy is damaged"):
        masks.keep(found, path)
    assert path.read_bytes() == damaged
