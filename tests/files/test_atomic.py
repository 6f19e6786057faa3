"""Files that appear complete or not at all."""

import pytest

from lfbm_jax.files import atomic


def test_processes_of_the_same_number_do_not_share_a_temporary_file(tmp_path):
    """As in two containers with one volume."""
    path = tmp_path / "a.txt"
    with atomic.replacing(path) as first, atomic.replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_an_abandoned_folders_lock_is_open_for_writing_which_nfs_asks_for(tmp_path, monkeypatch):
    abandoned = tmp_path / "x.1-0123abcd.tmp"
    abandoned.mkdir()
    (abandoned / atomic.LOCK).touch()
    flock = atomic.fcntl.flock

    def of_nfs(file, operation):
        assert file.writable() or not operation & atomic.fcntl.LOCK_EX
        return flock(file, operation)

    monkeypatch.setattr(atomic.fcntl, "flock", of_nfs)
    with atomic.scratch(tmp_path / "y"):
        assert not abandoned.exists()


def test_a_users_folder_beside_the_target_stays(tmp_path):
    """With or without a file called lock, whatever its name ends in."""
    for name in ("scans.tmp", "x.1-backup.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "scans.tmp" / atomic.LOCK).touch()
    with atomic.scratch(tmp_path / "y"):
        assert {"scans.tmp", "x.1-backup.tmp"} <= {path.name for path in tmp_path.iterdir()}
    with atomic.scratch(tmp_path / "y") as ours:
        assert atomic._OURS.fullmatch(ours.name), "else nothing would ever be removed"


def test_what_is_written_takes_the_files_place(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("old")
    with atomic.replacing(path) as temporary:
        temporary.write_text("new")
        assert list(tmp_path.glob("*.npz")) == [path], "half a file has the suffix"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_dead_process_left_is_no_obstacle(tmp_path):
    """`scratch` looks for abandoned folders among names that `replacing` also gives to files."""
    left = tmp_path / f"weights.pth.1{atomic.SUFFIX}"
    left.write_text("half")
    with atomic.scratch(tmp_path / "data") as folder:
        assert folder.is_dir()
    assert left.read_text() == "half"
