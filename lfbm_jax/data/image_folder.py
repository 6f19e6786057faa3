"""Reads folders and archives of images: JPEG, PNG and WebP.

    <split>/<class>/*.jpg    or    <split>/*.jpg    with the splits train and test
    <class>/*.jpg            or    *.jpg

A folder val, valid or validation is the test split if there is a train but no test folder, and is
left out if there is a test folder. Folders above all these are ignored. `files.members` lists the
kinds of archives. Images are sorted by path, with numbers in it sorted by value. A label is the
position of the class among the sorted class names.

Images are turned upright, as their EXIF orientation says. Of an animation, the first frame is
stored. Files that are left out are counted by kind in one line. All images that cannot be used are
reported in one message.
"""

import collections
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lfbm_jax.errors import Misfit, UserError, summary
from lfbm_jax.files import members
from lfbm_jax.files.members import Member
from lfbm_jax.images import cache, encoded
from lfbm_jax.images.resize import Fit

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("train", "test")
VALIDATION = ("val", "valid", "validation")
UNUSED = "unused"  # The split of validation images if there are test images.


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the images in `data.dir`.

    This is a folder of images, an archive, or a folder with one archive. Without `data.crop`, all
    images must be square and of one size.

    Raises:
        UserError: there are no images, some cannot be read or do not suit the config (see
            `resize.Fit`), or the folders are neither splits nor classes throughout.
    """
    if not data.dir:
        raise UserError("data.dir is empty: name a folder of images or an archive of them with"
                        " --config.data.dir=FOLDER")
    place = cache.folder(data.dir)
    if place.is_dir():
        listed = members.in_folder(place)
        files = [place / member.name for member in listed if not _left_out(member)]
        if files:
            return cache.fill(data, files, lambda: _Images(data, place, listed).reading(len(files)))
        place = _only_archive(data, place, listed)
    elif not (place.is_file() and members.archive_kind(place)):
        raise UserError(f"data.dir={data.dir!r} is neither a folder nor an archive"
                        f" ({', '.join(members.ARCHIVES)})")
    return cache.fill(
        data, [place], lambda: _Images(data, place, members.in_archive(place)).reading(None)
    )


def _only_archive(data: Any, folder: Path, listed: list[Member]) -> Path:
    """Returns the only archive in a folder without images, or raises a UserError."""
    paths = [folder / member.name for member in listed if "/" not in member.name]
    archives = [path for path in paths if members.archive_kind(path)]
    if len(archives) != 1:
        others = _counted(map(_left_out, listed)) or "nothing else"
        raise UserError(
            f"data.dir={data.dir!r} has no images ({', '.join(IMAGES)}) and {len(archives)}"
            f" archives, but {others}: name the folder or the one archive that has them"
        )
    return archives[0]


def _left_out(member: Member) -> str:
    """Returns the kind of a file that is left out, or "" for an image that is read."""
    *folders, file = parts = PurePosixPath(member.name).parts
    if "__MACOSX" in folders or any(part.startswith(".") for part in parts):
        return "hidden"
    if member.left_out or file.lower().endswith(IMAGES):
        return member.left_out
    return PurePosixPath(file).suffix.lower() or "without a suffix"


def _counted(kinds: Iterable[str]) -> str:
    """Counts kinds as in "2 .gif, 1 .txt", with the most frequent first."""
    return ", ".join(f"{count} {kind}" for kind, count in collections.Counter(kinds).most_common())


class _Images:
    """One pass over the members of a folder or an archive."""

    def __init__(self, data: Any, place: Path, listed: Iterable[Member]):
        self.place, self.listed = place, listed
        self.cropped = bool(data.crop)
        self.fit = Fit.of(data)
        self.names: list[str] = []  # of all images, including unusable ones
        self.first: tuple[str, tuple[int, int]] | None = None  # the first image's name and size
        self.misfits: dict[str, Misfit] = {}
        self.climbing: list[str] = []
        self.left_out: list[str] = []  # the kind of each such file

    def reading(self, total: int | None) -> cache.Reading:
        return cache.Reading(self._examples(), self._arrange, total, self._notes)

    def _examples(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (name, uint8 [H, W, C]), and at the end raises a UserError with all faults."""
        archive = self.place.is_file()
        for member in self.listed:
            if archive and members.leads_outside(member.name):
                self.climbing.append(member.name)
            elif kind := _left_out(member):
                self.left_out.append(kind)
            else:
                self.names.append(member.name)
                try:
                    yield member.name, self._image(member)
                except Misfit as misfit:
                    self.misfits[member.name] = misfit
        self._check()

    def _image(self, member: Member) -> np.ndarray:
        where = f"{self.place}/{member.name}"
        image = encoded.decode(member.read(), where, self.fit.done)
        self.first = self.first or (member.name, image.size)
        name, size = self.first
        if not self.cropped and image.size != size:
            raise Misfit(where, f"of another size than {name} ({_size(size)})", _size(image.size),
                         "make them one size, or crop them, for example with"
                         " --config.data.crop=center")
        return self.fit(image, where)

    def _check(self) -> None:
        """Raises a UserError if the archive, or any image that is used, has a fault."""
        if self.climbing:
            raise UserError(
                f"{self.place}: {len(self.climbing)} names lead outside the archive, such as"
                f" {self.climbing[0]!r}, so nothing was read: pack it again without such names"
            )
        if not self.names:
            raise UserError(f"{self.place} has no images ({', '.join(IMAGES)}), but"
                            f" {_counted(self.left_out) or 'nothing'}: name one with images")
        tree = _Tree(self.names)
        used = {name for name, split in zip(self.names, tree.splits, strict=True)
                if split != UNUSED}
        misfits = tree.misfits | self.misfits
        misfits = {name: misfit for name, misfit in misfits.items() if name in used}
        if misfits:
            raise UserError(f"{self.place}: {len(misfits)} of {len(used)} images cannot be used:"
                            f" {summary(misfits)}")
        self.left_out += ["of a validation split"] * tree.splits.count(UNUSED)

    def _arrange(self, names: list[str]) -> cache.Layout:
        """Returns the splits, labels and order that follow from the paths of all images."""
        tree = _Tree(names)
        latest = {name: i for i, name in enumerate(names)}  # A tar may hold a file several times.
        self.left_out += ["replaced in the archive"] * (len(names) - len(latest))
        order = sorted(latest.values(), key=lambda i: members.by_name(names[i]))
        used = [path for path, split in zip(tree.folders, tree.splits, strict=True)
                if split != UNUSED]
        labels = classes = None
        if any(used):
            classes = sorted({path[0] for path in used})
            number = {name: label for label, name in enumerate(classes)}
            labels = [number.get(path[0], -1) if path else -1 for path in tree.folders]
        train, test = ([i for i in order if tree.splits[i] == split] for split in SPLITS)
        return cache.Layout(train, test, labels, classes)

    def _notes(self) -> list[str]:
        notes = self.fit.notes()
        if self.left_out:
            notes.append(f"left out: {_counted(self.left_out)} (read are {', '.join(IMAGES)})")
        return notes


class _Tree:
    """Derives splits and classes from the paths of all images.

    Attributes:
        splits: for each image, "train", "test", UNUSED, or "" if it is in no split.
        folders: for each image, the names of the folders between its split and its file.
        misfits: image name -> what is wrong with its place.
    """

    def __init__(self, names: list[str]):
        folders = _without_common([PurePosixPath(name).parts[:-1] for name in names])
        tops = {path[0].lower() for path in folders if path}
        self.splits, self.folders = ["train"] * len(names), folders
        self.misfits: dict[str, Misfit] = {}
        if not tops.isdisjoint(SPLITS):
            held_out = dict.fromkeys(VALIDATION, UNUSED if "test" in tops else "test")
            roles = {split: split for split in SPLITS} | held_out
            self.splits = [roles.get(path[0].lower(), "") if path else "" for path in folders]
            self.folders = [path[1:] for path in folders]
            self._require(names, list(map(bool, self.splits)),
                          "in neither train nor test, as others are")
        used = [split != UNUSED for split in self.splits]
        classed = list(map(bool, self.folders))
        if any(a and b for a, b in zip(used, classed, strict=True)):
            self._require(names, classed, "in no folder of a class, as others are")

    def _require(self, names: list[str], fine: list[bool], kind: str) -> None:
        for name, ok in zip(names, fine, strict=True):
            if not ok:
                self.misfits.setdefault(name, Misfit(name, kind, "", "move or remove them"))


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} pixels high and {size[0]} wide"


def _without_common(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drops the leading folders that all paths share, but not a split's folder."""
    common = os.path.commonprefix(folders)  # noqa: RUF071 - of tuples, name by name
    depth = next((i for i, name in enumerate(common) if name.lower() in SPLITS), len(common))
    return [path[depth:] for path in folders]
