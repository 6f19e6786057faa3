"""Folders and archives of images as users have them."""

import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from lfbm_jax import data as sources
from lfbm_jax.errors import UserError
from tests.builders import small_config

SIZE = 8
ARCHIVES = ("zip", "tar", "tar.gz")


@pytest.fixture
def prepare(tmp_path):
    """`prepare(place, channels=3, ...)`: the cache of a folder or an archive."""

    def prepare(place, **settings):
        data = small_config().data
        data.update({"source": "image_folder", "name": "x", "dir": str(place), "image_size": SIZE})
        data.update({"channels": 3, "cache_dir": str(tmp_path / "cache")} | settings)
        return sources.prepare(data)

    return prepare


@pytest.fixture
def refusal(prepare):
    """`refusal(place, ...)`: the one line that ends the preparation."""

    def refusal(place, **settings):
        with pytest.raises(UserError) as caught:
            prepare(place, **settings)
        (line,) = str(caught.value).splitlines()
        return line

    return refusal


def pixels(seed, shape=(SIZE, SIZE, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def plain(count):
    return {f"plain{i}.png": encoded(pixels(i)) for i in range(count)}


def write(place, files):
    """Writes name -> content as the folder or archive that the suffix of `place` names."""
    kind = next((k for k in sorted(ARCHIVES, key=len)[::-1] if place.name.endswith(f".{k}")), "")
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif kind:
        with tarfile.open(place, f"w:{kind[4:]}") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    return place


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
    """The picture is higher than wide; its centred square is compared, without loss and with."""
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
    """A tag of a wrong type beside the orientation, and a block that is no EXIF at all."""
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


@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar"])
def test_what_is_left_out_is_counted_by_suffix(prepare, tmp_path, place, capsys):
    files = plain(2) | {
        "a.webp": encoded(pixels(5), "WEBP", lossless=True),
        "b.GIF": encoded(pixels(0), "GIF"),
        "c.tiff": encoded(pixels(0), "TIFF"),
        "d.tiff": encoded(pixels(0), "TIFF"),
        "notes.txt": b"no image",
        "README": b"no image",
        ".DS_Store": b"no image",
        "__MACOSX/plain0.png": b"no image",
    }
    images = prepare(write(tmp_path / place, files)).train.images
    np.testing.assert_array_equal(images, [pixels(5), pixels(0), pixels(1)])
    (line,) = capsys.readouterr().out.splitlines()
    for count in ("2 .tiff", "1 .gif", "1 .txt", "1 without a suffix", "2 hidden"):
        assert count in line
    assert "left out" in line


def test_of_animations_the_first_frame_is_read(prepare, tmp_path, capsys):
    first, *others = (Image.fromarray(pixels(i)) for i in range(3))
    moving = {"save_all": True, "append_images": others}
    files = plain(1) | {"a.png": encoded(first, **moving),
                        "b.webp": encoded(first, "WEBP", lossless=True, **moving)}
    images = prepare(write(tmp_path / "folder", files)).train.images
    np.testing.assert_array_equal(images, [pixels(0)] * 3)
    assert "of several frames, the first taken: 2" in capsys.readouterr().out


def transparent(mode="RGBA"):
    """An image whose left half is not to be seen; the right half is (10, 200, 30) or 150."""
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


def test_all_problems_are_in_one_message(refusal, tmp_path):
    """Also those of places and sizes; what is no image is not blamed on anything else."""
    whole = encoded(pixels(0))
    files = {f"train/a/{name}": content for name, content in plain(2).items()}
    files |= {
        "train/a/cut.png": whole[: len(whole) // 2],
        "train/a/text.jpg": b"no image",
        "train/a/large.png": encoded(pixels(0, (9, 9, 3))),
        "train/a/grey.png": encoded(pixels(0)[..., 0]),
        "train/loose.png": whole,
        "other/b/x.png": whole,
    }
    line = refusal(write(tmp_path / "folder", files))
    assert "6 of 8 images cannot be used" in line
    for name in ("cut.png", "large.png", "grey.png", "loose.png", "x.png"):
        assert name in line
    assert "2 truncated or no image" in line
    assert "BytesIO" not in line


@pytest.mark.parametrize("settings", [{"channels": 1}, {"channels": 3, "convert": True}])
def test_sixteen_bits_are_scaled_to_eight(prepare, tmp_path, settings, capsys):
    levels = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    (stored,) = prepare(write(tmp_path / "folder", {"a.png": encoded(levels)}),
                        **settings).train.images
    np.testing.assert_array_equal(stored[..., -1], np.round(levels / 65535 * 255))
    assert "16 bits" in capsys.readouterr().out


def test_advice_about_sixteen_bits_keeps_the_picture(refusal, tmp_path):
    line = refusal(write(tmp_path / "folder", {"a.png": encoded(np.zeros((8, 8), np.uint16))}))
    assert "1 of mode I;16 (a.png)" in line
    assert "scaling 65,535 to 255" in line
    assert "image.convert" not in line


def test_links_lead_to_every_real_file_once(prepare, tmp_path, capsys):
    """Loops, aliases of a folder and of a file, links out of the folder, links to nothing."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    write(folder / "cat", {f"{i}.png": encoded(pixels(i)) for i in range(2)})
    write(elsewhere / "deep", {"7.png": encoded(pixels(7))})
    (elsewhere / "deep" / "back").symlink_to(folder)
    (folder / "another").symlink_to(folder / "cat")  # Sorted before what it leads to.
    (folder / "self").symlink_to(".")
    (folder / "cat" / "up").symlink_to("..")
    (folder / "cat" / "0again.png").symlink_to("0.png")
    (folder / "cat" / "nothing.png").symlink_to("missing.png")
    (folder / "cat" / "round.png").symlink_to("round.png")
    (folder / "dog").symlink_to(elsewhere)
    os.mkfifo(folder / "cat" / "pipe.png")
    train = prepare(folder).train
    np.testing.assert_array_equal(train.images, [pixels(0), pixels(1), pixels(7)])
    np.testing.assert_array_equal(train.labels, [0, 0, 1])
    out = capsys.readouterr().out
    assert "5 link to what is read already" in out
    assert "3 link to nothing or special file" in out


@pytest.mark.parametrize("held_out", ["val", "valid", "validation", "Val"])
@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar"])
def test_validation_is_the_held_out_split_where_there_is_no_test(
    prepare, tmp_path, held_out, place, capsys
):
    files = {f"set/{split}/{name}/{i}.png": encoded(pixels(10 * k + i))
             for k, split in enumerate(("train", held_out))
             for name in ("cat", "dog") for i in range(k, 3)}
    cache = prepare(write(tmp_path / place, files), test_fraction=0.1)
    np.testing.assert_array_equal(cache.train.labels, [0] * 3 + [1] * 3)
    np.testing.assert_array_equal(cache.test.labels, [0] * 2 + [1] * 2)
    np.testing.assert_array_equal(cache.test.images[0], pixels(11))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar"])
def test_validation_beside_test_is_left_out_and_said(prepare, tmp_path, place, capsys):
    """Even what would not fit."""
    files = {f"{split}/{i}.png": encoded(pixels(i)) for split in ("train", "test")
             for i in range(2)}
    files |= {"val/b/0.png": encoded(pixels(0)), "val/grey.png": encoded(pixels(0)[..., 0])}
    cache = prepare(write(tmp_path / place, files))
    assert (len(cache.train.images), len(cache.test.images)) == (2, 2)
    assert cache.train.labels is None
    assert "left out: 2 of a validation split" in capsys.readouterr().out


def test_a_class_may_be_called_valid(prepare, tmp_path):
    files = {f"{name}/0.png": encoded(pixels(0)) for name in ("invalid", "valid")}
    np.testing.assert_array_equal(prepare(write(tmp_path / "folder", files)).train.labels, [0, 1])


def patched_zip(place, files, offsets, value):
    """A zip archive with a byte changed in each member's local and central header."""
    write(place, files)
    raw = bytearray(place.read_bytes())
    for signature, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        at = raw.find(signature)
        while at >= 0:
            raw[at + offset] = value
            at = raw.find(signature, at + 4)
    place.write_bytes(raw)
    return place


@pytest.mark.parametrize(
    ("offsets", "value", "said"),
    [
        ((6, 8), 0x01, "3 encrypted (plain0.png)"),
        ((6, 8), 0x41, "3 encrypted (plain0.png)"),  # strong encryption
        ((8, 10), 9, "3 compressed by a method that Python cannot read (plain0.png: method 9"),
        ((8, 10), 99, "3 compressed by a method that Python cannot read (plain0.png: method 99"),
        ((14, 16), 0, "damaged"),  # of the checksum
        ((4, 6), 99, "cannot be read by Python"),  # the version needed to extract it
    ],
)
def test_zip_archives_that_python_cannot_read(refusal, tmp_path, offsets, value, said):
    line = refusal(patched_zip(tmp_path / "a.zip", plain(3), offsets, value))
    assert said in line
    assert "a.zip" in line


@pytest.mark.parametrize("name", ["../../elsewhere/a.png", "b/../../a.png", "/etc/a.png",
                                  "..\\a.png", "C:\\a.png"])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_names_that_lead_outside_of_an_archive(refusal, tmp_path, kind, name):
    line = refusal(write(tmp_path / f"a.{kind}", {name: encoded(pixels(0))} | plain(2)))
    assert "1 names lead outside of the archive" in line
    assert "nothing was read" in line
    assert list((tmp_path / "cache").glob("x-*")) == []


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_last_version_in_an_archive_counts(prepare, tmp_path, kind, capsys):
    place = write(tmp_path / f"a.{kind}", plain(2))
    if kind == "tar":
        with tarfile.open(place, "a") as archive:
            info = tarfile.TarInfo("plain0.png")
            info.size = len(encoded(pixels(9)))
            archive.addfile(info, io.BytesIO(encoded(pixels(9))))
    else:
        with zipfile.ZipFile(place, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("plain0.png", encoded(pixels(9)))
    np.testing.assert_array_equal(prepare(place).train.images, [pixels(9), pixels(1)])
    assert "1 replaced in the archive" in capsys.readouterr().out


def test_truncated_archives(refusal, tmp_path):
    for kind in ARCHIVES:
        place = write(tmp_path / f"a.{kind}", plain(3))
        content = place.read_bytes()
        place.write_bytes(content[: len(content) // 20])
        assert "truncated or no archive" in refusal(place)


def test_a_disk_that_fails_is_not_taken_for_a_damaged_archive(refusal, tmp_path, monkeypatch):
    place = write(tmp_path / "a.zip", plain(1))

    def fail(*_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(zipfile.ZipFile, "read", fail)
    line = refusal(place)
    assert "cannot be read (Input/output error)" in line
    assert "truncated" not in line


def test_nothing_but_other_files(refusal, tmp_path):
    others = {"a.gif": encoded(pixels(0), "GIF"), "b.txt": b""}
    for place in ("folder", "a.zip", "a.tar"):
        line = refusal(write(tmp_path / place, others))
        assert "has no images" in line
        assert "1 .gif, 1 .txt" in line


def test_a_refusal_ends_the_command_with_one_line(run_python, tmp_path):
    place = patched_zip(tmp_path / "a.zip", plain(2), (6, 8), 1)
    done = run_python(
        ["-m", "lfbm_jax.main", "--config=configs/image_folder.py", "--mode=prepare",
         f"--config.data.dir={place}", f"--config.data.cache_dir={tmp_path / 'cache'}"],
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "encrypted" in line
