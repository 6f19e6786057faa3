"""Folders and files that appear complete or not at all, however the process that makes them ends.

A folder is filled under a temporary name beside its place and renamed into it. The temporary
folder holds a file that its process keeps locked: the kernel drops the lock when the process
dies, so what dead processes left is told from what living ones are at work on.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

SUFFIX = ".tmp"
LOCK = "lock"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on the file `path` (made where missing), waiting for it if need be.

    The kernel releases it when the process ends, in whatever way.
    """
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary file's path beside `path`, of the same suffix.

    What is written there takes the place of `path` at the end; if that is not reached, `path` stays
    as it was.
    """
    temporary = path.with_name(f"{path.stem}.{os.getpid()}{SUFFIX}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # Else a power cut may leave an empty file in its place.
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yields a new temporary folder beside `target`; what is left of it at the end is removed.

    Also removes the temporary folders of dead processes. Folders of living ones stay.
    """
    parent = target.parent
    unique = f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    with contextlib.ExitStack() as stack:
        # Nobody may look for abandoned folders between the making of ours and its locking.
        with locked(parent / f".{LOCK}"):
            _remove_abandoned(parent)
            folder = parent / unique
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(locked(folder / LOCK))
        yield folder


def publish(folder: Path, target: Path, is_complete: Callable[[Path], bool]) -> None:
    """Renames a filled `scratch` folder to `target`.

    Where another process was first with a complete one, that one stays and ours is left for
    `scratch` to remove; an incomplete one is set aside.
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
    """Moves a file or folder that cannot be read to `place`, with a number where that is taken.

    Nothing is deleted that may be read another day.

    Returns:
        Where it is now.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    free, number = place, 1
    while free.exists():
        number += 1
        free = place.with_name(f"{place.stem}-{number}{place.suffix}")
    return path.rename(free)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"*{SUFFIX}"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        with open(folder / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # Folder and lock are made under the parent's lock, which we hold: its process died there.
        return True
    return True
