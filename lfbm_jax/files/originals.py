"""Checks that the original files of a data set exist and have their published checksums."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lfbm_jax.errors import UserError
from lfbm_jax.files.web_page import is_web_page


def require(folder: Path, names: Iterable[str], where: str, remedy: str) -> None:
    """Raises one UserError that names every file that the folder lacks.

    Args:
        folder: the folder, which may be missing itself.
        names: the names of the files.
        where: how to name the folder to the user.
        remedy: what the user can do.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}: {remedy}")


def check(folder: Path, md5: Mapping[str, str], remedy: str) -> None:
    """Raises one UserError that names every file whose checksum is not that of the original.

    Args:
        folder: the folder with the files, all of which exist.
        md5: for each file name the MD5 of the original, in hexadecimal digits.
        remedy: what the user can do, for example "fetch them again".
    """
    others = list(_others(folder, md5))
    if others:
        raise UserError(f"{folder}: {'; '.join(others)}: {remedy}")


def _others(folder: Path, md5: Mapping[str, str]) -> Iterator[str]:
    for name, original in md5.items():
        path = folder / name
        try:
            if is_web_page(path):
                yield f"{name} is a web page, not the file itself"
                continue
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, _md5).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}), though the file itself may"
                            " be intact; run the same command again") from error
        if found != original:
            yield f"{name} is not the original file (its MD5 is {found}, not {original})"


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)  # FIPS systems forbid MD5 otherwise.
