"""A cache is complete or absent, however its preparation ends, and never in the user's folder."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lfbm_jax.data import prepare
from lfbm_jax.errors import UserError
from lfbm_jax.images import cache
from tests.builders import small_config

COUNT = 40

# Prepares COUNT images; argv: cache folder, what to do after half of them.
PREPARE = f"""
import os, pathlib, signal, sys, time
import numpy as np
from lfbm_jax.images import cache
from tests.builders import small_config

folder, at_half = pathlib.Path(sys.argv[1]), sys.argv[2]
data = small_config().data
data.update({{"source": "synthetic", "name": "x", "cache_dir": str(folder / "cache")}})

def examples():
    for i in range({COUNT}):
        if i == {COUNT} // 2 and at_half == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if i == {COUNT} // 2 and at_half == "meet":
            (folder / f"here-{{os.getpid()}}").touch()
            while len(list(folder.glob("here-*"))) < 2:
                time.sleep(0.01)
        yield ("train", i % 10), np.full((8, 8, 1), i, np.uint8)

ready = cache.fill(data, (), lambda: cache.Reading(examples(), cache.by_split, {COUNT}))
print(ready.directory)
"""


@pytest.fixture
def start(tmp_path, python_environment, repo):
    def start(at_half):
        return subprocess.Popen(
            [sys.executable, "-c", PREPARE, tmp_path, at_half],
            cwd=repo,
            env=python_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def assert_complete(folder):
    (directory,) = [path for path in (folder / "cache").iterdir() if path.is_dir()]
    ready = cache.load(directory)
    np.testing.assert_array_equal(ready.train.images[:, 0, 0, 0], np.arange(COUNT))
    np.testing.assert_array_equal(ready.train.labels, np.arange(COUNT) % 10)


def test_preparation_killed_half_way_is_done_again(start, tmp_path):
    process = start("die")
    assert process.wait(60) == -signal.SIGKILL
    (left,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert cache.load(left) is None
    process = start("go on")
    assert process.wait(60) == 0
    assert_complete(tmp_path)


def test_two_processes_prepare_at_once(start, tmp_path):
    """Each waits half-way for the other, so that both write at the same time."""
    processes = [start("meet"), start("meet")]
    places = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(places) == 1
    assert_complete(tmp_path)


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    data = small_config().data
    data.update({"source": "synthetic", "name": "x", "cache_dir": str(tmp_path / "cache")})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"data\.cache_dir: the disk of .* is full"):
            prepare(data)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    assert len(prepare(data).train.images) > 0


def test_nothing_is_written_in_the_users_folder(tmp_path):
    data = small_config().data
    data.update({"source": "image_folder", "name": "x", "dir": str(tmp_path)})
    data.cache_dir = str(tmp_path / "cache")
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"inside data\.dir"):
        prepare(data)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_preparation_under_way_is_not_taken_for_abandoned(start, tmp_path):
    first = start("meet")
    while not list(tmp_path.glob("here-*")):
        assert first.poll() is None
        time.sleep(0.01)
    assert start("go on").wait(60) == 0
    (tmp_path / "here-other").touch()
    assert first.wait(60) == 0
    assert_complete(tmp_path)


def test_a_cache_of_an_older_format_is_kept_and_the_data_prepared_again(
    tmp_path, monkeypatch, capsys
):
    data = small_config().data
    data.update({"source": "synthetic", "name": "x", "cache_dir": str(tmp_path / "cache")})
    with monkeypatch.context() as patch:
        patch.setattr(cache, "FORMAT", cache.FORMAT - 1)
        older = prepare(data)
    manifest = older.directory / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["fingerprint"]["convert"]  # A setting that did not exist then.
    manifest.write_text(json.dumps(content))
    assert capsys.readouterr().out == ""

    now = prepare(data)
    (line,) = capsys.readouterr().out.splitlines()
    assert f"data cache {older.directory} has the older format {cache.FORMAT - 1}" in line
    assert "preparing the data again" in line
    assert now.directory != older.directory
    assert cache.load(older.directory) is not None
    prepare(data)
    assert capsys.readouterr().out == ""

    # A cache of other settings is not mentioned, whatever its format; neither is rubbish.
    (tmp_path / "cache" / "x-rubbish").mkdir()
    (tmp_path / "cache" / "x-rubbish" / "manifest.json").write_text("{}")
    data.image_size = 4
    prepare(data)
    assert capsys.readouterr().out == ""
