"""Single images as users have them: orientations, animations, modes other than the config's."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.data.image_files import SIZE, encoded, pixels, plain, write


def oriented(upright, orientation):
    """What a camera stores, with the orientation under which `upright` is shown (EXIF 2.32)."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),  # Shown turned clockwise, so stored turned the other way.
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(np.ascontiguousarray(stored)), exif


@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar", "a.tar.gz"])
def test_all_orientations_are_stored_upright(prepare, tmp_path, place, capsys):
    """The picture is higher than wide; its centred square is compared, with and without loss."""
    upright = np.kron(pixels(0, (3, 2, 3)), np.ones((4, 4, 1), np.uint8))
    files = {}
    for orientation in range(1, 9):
        image, exif = oriented(upright, orientation)
        files[f"{orientation}.png"] = encoded(image, exif=exif)
        files[f"{orientation}.webp"] = encoded(image, "WEBP", lossless=True, exif=exif)
    images = prepare(write(tmp_path / place, files), crop="center").train.images
    assert len(images) == 16
    for image in images:
        np.testing.assert_array_equal(image, upright[2:10])
    assert capsys.readouterr().out == ""


def test_an_oriented_jpeg_is_stored_upright(prepare, tmp_path):
    for orientation in range(1, 9):
        upright = np.zeros((SIZE, SIZE, 3), np.uint8)
        upright[:4, :4], upright[4:, :4] = 255, 128  # White above grey, at the left.
        image, exif = oriented(upright, orientation)
        folder = tmp_path / str(orientation)
        write(folder, {"a.jpg": encoded(image, "JPEG", exif=exif, quality=100)})
        (stored,) = prepare(folder).train.images
        np.testing.assert_allclose(stored, upright, atol=6)


def test_damaged_exif_does_not_keep_an_image_out(prepare, tmp_path):
    """A tag of a wrong type beside the orientation, and a block that is not EXIF at all."""
    image, exif = oriented(pixels(0), 6)
    exif[0x011A] = 72.0
    damaged = bytearray(exif.tobytes())
    at = damaged.find(b"\x1a\x01")
    damaged = damaged if at >= 0 else bytearray(exif.tobytes())
    entry = at if at >= 0 else damaged.find(b"\x01\x1a")
    order = "<" if b"II" in bytes(damaged[:10]) else ">"
    struct.pack_into(f"{order}H", damaged, entry + 2, 2)  # XResolution as text
    files = {"a.png": encoded(image, exif=bytes(damaged)),
             "b.jpg": encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0rubbish")}
    images = prepare(write(tmp_path / "folder", files)).train.images
    np.testing.assert_array_equal(images[0], pixels(0))


def test_of_animations_the_first_frame_is_read(prepare, tmp_path, capsys):
    first, *others = (Image.fromarray(pixels(i)) for i in range(3))
    moving = {"save_all": True, "append_images": others}
    files = plain(1) | {"a.png": encoded(first, **moving),
                        "b.webp": encoded(first, "WEBP", lossless=True, **moving)}
    images = prepare(write(tmp_path / "folder", files)).train.images
    np.testing.assert_array_equal(images, [pixels(0)] * 3)
    assert "of several frames, the first taken: 2" in capsys.readouterr().out


def transparent(mode="RGBA"):
    """An image whose left half is transparent; the right half is (10, 200, 30) or 150."""
    shown = {"RGBA": (10, 200, 30, 255), "LA": (150, 255)}[mode]
    image = np.zeros((SIZE, SIZE, len(shown)), np.uint8)
    image[:, 4:] = shown
    return Image.fromarray(image)


def odd_modes():
    palette = Image.fromarray(pixels(0)).quantize(4)
    return {
        "bit.png": encoded(Image.fromarray(pixels(1)).convert("1")),
        "grey0.png": encoded(pixels(2)[..., 0]),
        "grey1.png": encoded(pixels(3)[..., 0]),
        "grey_alpha.png": encoded(transparent("LA")),
        "palette.png": encoded(palette),
        "rgba.webp": encoded(transparent(), "WEBP", lossless=True, exact=True),
        "key.png": encoded(Image.new("RGB", (SIZE, SIZE), (1, 2, 3)), transparency=(1, 2, 3)),
        "cmyk.jpg": encoded(Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)), "JPEG"),
    }


@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar.gz"])
def test_all_misfits_are_in_one_message_by_mode(refusal, tmp_path, place):
    line = refusal(write(tmp_path / place, plain(3) | odd_modes()))
    assert "8 of 11 images cannot be used" in line
    for part in ("1 of mode 1 (bit.png)", "2 of mode L (grey0.png)", "1 of mode LA", "1 of mode P ",
                 "1 of mode RGBA", "1 of mode RGB with a transparent colour", "1 of mode CMYK"):
        assert part in line
    assert "data.convert" in line


@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("#204060", (32, 64, 96))])
def test_other_modes_are_converted_where_asked(prepare, tmp_path, capsys, background, behind):
    place = write(tmp_path / "folder", odd_modes())
    cache = prepare(place, convert=True, background=background)
    stored = dict(zip(sorted(odd_modes()), cache.train.images, strict=True))
    for name, channel in (("grey0.png", pixels(2)[..., 0]), ("grey1.png", pixels(3)[..., 0])):
        np.testing.assert_array_equal(stored[name], np.repeat(channel[..., None], 3, axis=2))
    assert set(np.unique(stored["bit.png"])) == {0, 255}
    quantized = Image.open(place / "palette.png")
    colours = np.array(quantized.getpalette()).reshape(-1, 3)[np.asarray(quantized)]
    np.testing.assert_array_equal(stored["palette.png"], colours)
    for name, shown in (("rgba.webp", (10, 200, 30)), ("grey_alpha.png", 150)):
        np.testing.assert_array_equal(stored[name][:, :4], np.broadcast_to(behind, (SIZE, 4, 3)))
        np.testing.assert_array_equal(stored[name][:, 4:], np.broadcast_to(shown, (SIZE, 4, 3)))
    np.testing.assert_array_equal(stored["key.png"], np.broadcast_to(behind, (SIZE, SIZE, 3)))
    np.testing.assert_allclose(stored["cmyk.jpg"], np.broadcast_to((255, 0, 0), (SIZE, SIZE, 3)),
                               atol=3)
    assert "converted from mode L to RGB: 2" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [{"channels": 1}, {"channels": 3, "convert": True}])
def test_sixteen_bits_are_scaled_to_eight(prepare, tmp_path, settings, capsys):
    levels = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    levels[0, 1:5] = 128, 129, 65406, 65407  # On both sides of the point where rounding changes.
    (stored,) = prepare(write(tmp_path / "folder", {"a.png": encoded(levels)}),
                        **settings).train.images
    np.testing.assert_array_equal(stored[..., -1], np.round(levels / 65535 * 255))
    assert "16 bits" in capsys.readouterr().out


def test_advice_about_sixteen_bits_keeps_the_picture(refusal, tmp_path):
    line = refusal(write(tmp_path / "folder", {"a.png": encoded(np.zeros((8, 8), np.uint16))}))
    assert "1 of mode I;16 (a.png)" in line
    assert "scaling 65,535 to 255" in line
    assert "image.convert" not in line
