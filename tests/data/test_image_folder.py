"""Folders and archives of images as users lay them out: splits, classes, links and other files."""

import os

import numpy as np
import pytest

from tests.data.image_files import encoded, pixels, plain, write


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


def test_all_problems_are_in_one_message(refusal, tmp_path):
    """Faults of place and size are named too; what is not an image has no other fault."""
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
    assert "2 truncated or not an image" in line
    assert "BytesIO" not in line


def test_links_lead_to_every_real_file_once(prepare, tmp_path, capsys):
    """Loops, aliases of a folder and of a file, links out of the folder, links to nothing."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    write(folder / "cat", {f"{i}.png": encoded(pixels(i)) for i in range(2)})
    write(elsewhere / "deep", {"7.png": encoded(pixels(7))})
    (elsewhere / "deep" / "back").symlink_to(folder)
    (folder / "another").symlink_to(folder / "cat")  # Sorted before its target.
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
    assert "5 link to a file that is read anyway" in out
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
    np.testing.assert_array_equal(cache.held_out.labels, [0] * 2 + [1] * 2)
    np.testing.assert_array_equal(cache.held_out.images[0], pixels(11))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["folder", "a.zip", "a.tar"])
def test_validation_beside_test_is_left_out_and_said(prepare, tmp_path, place, capsys):
    """Even images that would not fit."""
    files = {f"{split}/{i}.png": encoded(pixels(i)) for split in ("train", "test")
             for i in range(2)}
    files |= {"val/b/0.png": encoded(pixels(0)), "val/grey.png": encoded(pixels(0)[..., 0])}
    cache = prepare(write(tmp_path / place, files))
    assert (len(cache.train.images), len(cache.held_out.images)) == (2, 2)
    assert cache.train.labels is None
    assert "left out: 2 of a validation split" in capsys.readouterr().out


def test_a_class_may_be_called_valid(prepare, tmp_path):
    files = {f"{name}/0.png": encoded(pixels(0)) for name in ("invalid", "valid")}
    np.testing.assert_array_equal(prepare(write(tmp_path / "folder", files)).train.labels, [0, 1])


def test_nothing_but_other_files(refusal, tmp_path):
    others = {"a.gif": encoded(pixels(0), "GIF"), "b.txt": b""}
    for place in ("folder", "a.zip", "a.tar"):
        line = refusal(write(tmp_path / place, others))
        assert "has no images" in line
        assert "1 .gif, 1 .txt" in line
