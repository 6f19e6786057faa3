"""Images are cropped, converted and resized as Pillow's bilinear filter does, independently."""

import numpy as np
import pytest
from PIL import Image

from lfbm_jax.data import prepare
from lfbm_jax.errors import Misfit, UserError
from lfbm_jax.images.resize import Fit
from tests.builders import small_config


def photograph(seed, height, width, channels=3):
    """A smooth picture with edges and grain: uint8 [height, width, channels]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / max(height, width)
    waves = np.sin(2 * np.pi * (random.uniform(1, 6, channels) * x + random.uniform(1, 6) * y))
    pixels = 128 + 70 * waves + 40 * (x + y > random.uniform(0.5, 1.5))
    pixels = pixels + random.normal(0, 12, (height, width, channels))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def fit(**settings):
    data = small_config().data
    data.update(settings)
    return Fit.of(data)


def triangle(pixels, size):
    """The antialiased bilinear filter along both axes in float64, from its definition.

    Output pixel i averages the inputs with the triangle of half-width `scale` around
    (i + 1/2) * scale, normalised; scale is inputs per output, at least 1.
    """

    def weights(count):
        scale = count / size
        width = max(scale, 1)
        distance = (np.arange(count) + 0.5) - (np.arange(size)[:, None] + 0.5) * scale
        rows = np.maximum(1 - np.abs(distance) / width, 0)
        return rows / rows.sum(axis=1, keepdims=True)

    height, width, _ = pixels.shape
    rows = np.tensordot(weights(height), pixels.astype(float), 1)
    return np.einsum("iwc,jw->ijc", rows, weights(width), optimize=True)


def test_a_folder_of_photographs_is_resized_bit_for_bit_as_by_pillow(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    pictures = [Image.fromarray(photograph(i, 128, 128)) for i in range(5)]
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
    data = small_config().data
    data.update({"source": "image_folder", "name": "x", "dir": str(folder), "image_size": 64})
    data.update({"channels": 3, "cache_dir": str(tmp_path / "cache")})
    prepared = prepare(data).train.images
    wanted = [np.asarray(p.resize((64, 64), Image.Resampling.BILINEAR)) for p in pictures]
    np.testing.assert_array_equal(prepared, wanted)


def test_celeba_is_cropped_and_then_resized():
    """Rows 45..172 and columns 25..152; nothing from beyond the crop reaches its edges."""
    aligned = photograph(0, 218, 178)
    crop = Image.fromarray(aligned[45:173, 25:153])
    wanted = np.asarray(crop.resize((64, 64), Image.Resampling.BILINEAR))
    celeba = fit(image_size=64, channels=3, crop="45,25,128,128")
    np.testing.assert_array_equal(celeba(Image.fromarray(aligned), "x"), wanted)
    aligned[:45], aligned[173:], aligned[:, :25], aligned[:, 153:] = 0, 255, 255, 0
    np.testing.assert_array_equal(celeba(Image.fromarray(aligned), "x"), wanted)


@pytest.mark.parametrize("crop", ["0,0,64,64", "0,7,64,64", "36,0,64,64", "99,79,1,1"])
def test_a_crop_may_touch_the_edges(crop):
    pixels = photograph(0, 100, 80)
    top, left, side, _ = map(int, crop.split(","))
    ours = fit(image_size=side, channels=3, crop=crop)(Image.fromarray(pixels), "x")
    np.testing.assert_array_equal(ours, pixels[top : top + side, left : left + side])


@pytest.mark.parametrize("crop", ["37,0,64,64", "0,17,64,64"])
def test_a_crop_that_reaches_beyond_an_image_is_refused(crop):
    with pytest.raises(Misfit, match=rf"smaller than data\.crop='{crop}' reaches"):
        fit(image_size=64, channels=3, crop=crop)(Image.fromarray(photograph(0, 100, 80)), "x")


@pytest.mark.parametrize(("side", "size"), [(128, 64), (100, 64), (1024, 256), (28, 32), (20, 64)])
def test_the_filter_is_the_antialiased_triangle(side, size):
    """Within the rounding of two passes of 8 bits each: one level."""
    pixels = photograph(1, side, side, 1)
    ours = fit(image_size=size)(Image.fromarray(pixels[..., 0]), "x")
    assert np.abs(ours - triangle(pixels, size)).max() <= 1


def test_images_of_the_wanted_size_stay_as_they_are():
    pixels = photograph(2, 64, 64)
    ours = fit(image_size=64, channels=3)
    np.testing.assert_array_equal(ours(Image.fromarray(pixels), "x"), pixels)
    assert ours.notes() == []


def test_enlarged_images_are_counted():
    ours = fit(image_size=64, channels=3, crop="center")
    for height, width in ((64, 80), (63, 80), (20, 20), (128, 64)):
        ours(Image.fromarray(photograph(0, height, width)), "x")
    assert ours.notes() == ["enlarged from less than 64 x 64: 2"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"background": "whit"}, "data.background='whit'"),
        ({"crop": "middle"}, "data.crop='middle'"),
        ({"crop": "-1,0,8,8"}, "data.crop='-1,0,8,8'"),
        ({"crop": "0,-1,8,8"}, "data.crop='0,-1,8,8'"),
        ({"crop": "0,0,0,0"}, "data.crop='0,0,0,0'"),
        ({"crop": "0,0,8,9"}, "data.crop='0,0,8,9'"),
        ({"channels": 4}, "data.channels=4"),
        ({"image_size": 0}, "data.image_size=0"),
    ],
)
def test_settings_that_make_no_sense(setting, named):
    with pytest.raises(UserError, match=named):
        fit(**setting)
