"""Archives that cannot be read, or should not be, and files replaced in them."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest

from tests.data.image_files import ARCHIVES, encoded, pixels, plain, write


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
    assert "1 names lead outside the archive" in line
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
        assert "truncated or not an archive" in refusal(place)


def test_a_disk_that_fails_is_not_taken_for_a_damaged_archive(refusal, tmp_path, monkeypatch):
    place = write(tmp_path / "a.zip", plain(1))

    def fail(*_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(zipfile.ZipFile, "read", fail)
    line = refusal(place)
    assert "cannot be read (Input/output error)" in line
    assert "truncated" not in line


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
