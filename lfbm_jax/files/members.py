"""Lists the files below a folder or in an archive, each real file once, sorted by name.

Nothing is unpacked. An archive is a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2. The members of a tar
come in the order of the archive, because seeking backwards in a compressed file means reading it
again.
"""

import bz2
import contextlib
import functools
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lfbm_jax.errors import Misfit, UserError
from lfbm_jax.files.web_page import is_web_page

TAR_OPENERS: dict[str, Callable[..., Any]] = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
}
ARCHIVES = (*TAR_OPENERS, ".zip")
ENCRYPTED = 0x1  # of a zip member's flags
# What Python raises for damaged compressed content.
DAMAGED = (EOFError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
READ_ALREADY = "link to a file that is read anyway"
LINK = "link in an archive"
SPECIAL = "link to nothing or special file"
UNPACK = "unpack the archive and name the folder"


class Member(NamedTuple):
    """One file of a folder or an archive.

    Attributes:
        name: the path below the folder or in the archive, with slashes.
        read: returns the content, or raises a Misfit. An archive's member must be read before the
            next one is taken.
        left_out: why the file is not to be read, such as "link in an archive"; "" if it is.
    """

    name: str
    read: Callable[[], bytes]
    left_out: str = ""


def archive_kind(path: Path) -> str | None:
    """The suffix that makes a file an archive; None if it is not an archive."""
    return next((kind for kind in ARCHIVES if path.name.lower().endswith(kind)), None)


def by_name(name: str) -> tuple[list[str | int], str]:
    """A sort key that puts 2.jpg before 10.jpg."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def in_folder(folder: Path) -> list[Member]:
    """The members of a folder. Links are followed, but each file is read only once.

    A file or folder that can be reached both through a link and without one keeps the name without
    the link.
    """
    candidates, left_out, known = [], {}, set()
    unreadable: list[OSError] = []
    places = [folder]
    for place in places:  # Links to folders are appended, so paths without links come first.
        for parent, folders, files in os.walk(place, onerror=unreadable.append):
            real, relative = os.path.realpath(parent), Path(parent).relative_to(folder)
            if real in known:
                left_out[relative.as_posix()] = READ_ALREADY
                folders.clear()
                continue
            known.add(real)
            folders.sort()
            places += [Path(parent, name) for name in folders if os.path.islink(f"{parent}/{name}")]
            candidates += [((relative / name).as_posix(), f"{real}/{name}") for name in files]
    if unreadable:
        raise UserError(f"{unreadable[0].filename} cannot be read ({unreadable[0].strerror}):"
                        " allow it, or name another folder")
    found = []
    links = {path for _, path in candidates if os.path.islink(path)}
    for name, path in sorted(candidates, key=lambda item: (item[1] in links, by_name(item[0]))):
        real = os.path.realpath(path) if path in links else path
        if not os.path.isfile(path):
            left_out[name] = SPECIAL
        elif real in known:
            left_out[name] = READ_ALREADY
        else:
            known.add(real)
            found.append(Member(name, functools.partial(_content, folder / name)))
    found += [Member(name, bytes, why) for name, why in left_out.items()]
    return sorted(found, key=lambda member: by_name(member.name))


def in_archive(archive: Path) -> Iterator[Member]:
    """The members of an archive.

    Raises:
        UserError: the archive cannot be read, is truncated or is not an archive.
    """
    with _explained(archive):
        yield from (_in_zip if archive_kind(archive) == ".zip" else _in_tar)(archive)


def leads_outside(name: str) -> bool:
    """Whether unpacking this member would write outside the folder that it is unpacked into."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or re.fullmatch("[A-Za-z]:", parts[0]) is not None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misfit(str(path), "impossible to read", error.strerror or str(error),
                     "allow it or try again") from error


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """Turns the errors that Python raises for an archive into a UserError."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(f"{archive} cannot be read by Python ({error}): unpack it and name the"
                        " folder") from error
    except (OSError, *DAMAGED, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # a fault of the disk
            raise UserError(f"{archive} cannot be read ({error.strerror}): try again") from error
        what = (
            "a web page, not the archive" if is_web_page(archive) else "truncated or not an archive"
        )
        raise UserError(f"{archive} is {what} ({error}): fetch it again"
                        ) from error


def _in_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if not info.is_dir()]
        for info in sorted(infos, key=lambda info: by_name(info.filename)):
            link = stat.S_ISLNK(info.external_attr >> 16)
            yield Member(info.filename, functools.partial(_unzipped, archive, file, info),
                         LINK if link else "")


def _unzipped(archive: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    where = f"{archive}/{info.filename}"
    if info.flag_bits & ENCRYPTED:
        raise Misfit(where, "encrypted", "", UNPACK)
    try:
        return file.read(info)
    except (NotImplementedError, RuntimeError) as error:  # RuntimeError: a missing module.
        names = zipfile.compressor_names  # type: ignore[attr-defined]  # not in the stubs
        method = names.get(info.compress_type, "unknown")
        raise Misfit(where, "compressed by a method that Python cannot read", f"method"
                     f" {info.compress_type}, {method}", UNPACK) from error
    except (OSError, *DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{archive} cannot be read ({error.strerror}): try again") from error
        raise Misfit(where, "damaged", str(error), "fetch the archive again") from error


def _in_tar(archive: Path) -> Iterator[Member]:
    with TAR_OPENERS[archive_kind(archive) or ""](archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as file:
            for member in file:
                read = functools.partial(_untarred, archive, file, member)
                if member.isfile():
                    yield Member(member.name, read)
                elif not member.isdir():
                    link = member.issym() or member.islnk()
                    yield Member(member.name, read, LINK if link else SPECIAL)
        # tarfile accepts a file that breaks off between two members. Decompressing it to its end
        # reveals that.
        while stream.read(2**20):
            pass


def _untarred(archive: Path, file: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with _explained(archive):
        content = file.extractfile(member)
        return content.read() if content else b""  # A device or the like has no content.
