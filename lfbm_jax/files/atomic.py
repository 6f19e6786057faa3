"""Files and folders that appear complete or not at all, however the writing process ends.

A folder is filled under a temporary name beside its target and then renamed. The temporary folder
holds a file that the writing process keeps locked. The kernel drops the lock when the process dies,
so folders that dead processes left behind can be told from folders in use.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

SUFFIX = ".tmp"
LOCK = "lock"
_OURS = re.compile(r".+\.\d+-[0-9a-f]{8}\.tmp")  # the names that `_beside` makes


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`, creating the file and waiting if necessary.

    The kernel releases the lock when the process ends, however it ends.
    """
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path`.

    At the end, the temporary file replaces `path`. If the block raises, `path` stays as it was. The
    temporary name ends in `.tmp`, so a listing of the files with `path`'s suffix never contains it.
    """
    temporary = _beside(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # Otherwise a power cut may leave an empty file.
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 by `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yields a new temporary folder beside `target` and removes it at the end if it still exists.

    Also removes the temporary folders of dead processes, but not those of running ones.
    """
    parent = target.parent
    with contextlib.ExitStack() as stack:
        # No process may look for abandoned folders between our mkdir and our lock.
        with locked(parent / f".{LOCK}"):
            _remove_abandoned(parent)
            folder = _beside(target)
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(locked(folder / LOCK))
        yield folder


def publish(folder: Path, target: Path, is_complete: Callable[[Path], bool]) -> None:
    """Renames a filled `scratch` folder to `target`.

    If another process has already published a complete folder, that one stays, and `scratch`
    removes ours. An incomplete folder at `target` is set aside.
    """
    with locked(target.parent / f".{LOCK}"):
        if is_complete(target):
            return
        if target.exists():
            place = set_aside(target, target.with_name(f"{target.name}.damaged"))
            print(f"warning: {target} is incomplete or damaged; it is kept as {place}", flush=True)
        (folder / LOCK).unlink()
        folder.rename(target)


def set_aside(path: Path, place: Path) -> Path:
    """Moves a file or folder that cannot be read to `place`, numbered if that name is taken.

    It is moved rather than deleted because it may be readable another day.

    Returns:
        The new path.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    free, number = place, 1
    while free.exists():
        number += 1
        free = place.with_name(f"{place.stem}-{number}{place.suffix}")
    return path.rename(free)


def _beside(path: Path) -> Path:
    """A new temporary name; processes of several hosts, or containers, may have the same number."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"*{SUFFIX}"):
        # The parent may also hold a user's folders. A file is `replacing`'s.
        if _OURS.fullmatch(folder.name) and folder.is_dir() and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        with open(folder / LOCK, "r+") as file:  # NFS locks only what is open for writing.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # Folder and lock are made under the parent's lock, which we hold now, so the process that
        # made this folder died between the two.
        return True
    return True
