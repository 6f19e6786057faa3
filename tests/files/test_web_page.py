"""HTML is distinguished from archives, IDX files and text by its beginning alone."""

import gzip
import zipfile

import pytest

from lfbm_jax.data import idx, image_folder
from lfbm_jax.errors import UserError
from lfbm_jax.files.web_page import is_web_page
from tests.builders import small_config

PAGES = (
    b"<!DOCTYPE html><html>Too many users have viewed this file</html>",
    b"\xef\xbb\xbf\r\n <HTML lang=en>",
    b"<!-- saved -->\n<!-- again -->\n<head>",
    b"<?xml version='1.0'?><!doctype  HTML PUBLIC>",
)
# Without a time in it: the workers of a parallel run must collect the same tests.
ZIPPED = gzip.compress(b"<html>", mtime=0)
OTHERS = (b"", b"PK\x03\x04<html>", ZIPPED, b"000001.jpg 0\n", b"<htmlx>", b"<h")


@pytest.mark.parametrize(
    ("content", "page"), [(page, True) for page in PAGES] + [(other, False) for other in OTHERS]
)
def test_beginnings(content, page, tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(content)
    assert is_web_page(path) == page


def test_an_archive_of_pages_is_no_page(tmp_path):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.html", PAGES[0])
    assert not is_web_page(path)


@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_a_page_among_idx_files_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(PAGES[0])
    with pytest.raises(UserError, match=f"{name} is a web page, not an IDX file"):
        idx._labels(tmp_path / name)


@pytest.mark.parametrize("name", ["faces.zip", "faces.tar", "faces.tar.gz", "faces.tar.xz"])
def test_a_page_instead_of_an_archive_of_images_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(PAGES[0])
    data = small_config().data
    data.update({"source": "image_folder", "name": "faces", "dir": str(tmp_path / name)})
    data.cache_dir = str(tmp_path / "cache")
    with pytest.raises(UserError, match=f"{name} is a web page, not the archive"):
        image_folder.prepare(data)
