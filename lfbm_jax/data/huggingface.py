"""Reads Hugging Face data sets: Parquet or Arrow files with a column of encoded images.

`data.dir` is a folder of such files, or one file: a downloaded repository, the output of
`save_to_disk` of the package `datasets`, or your own tables. If it is empty, `data.name` is a data
set on the hub: OWNER/NAME or OWNER/NAME/SUBSET, with @REVISION appended for a revision other than
the newest. Its Parquet files, or those that the hub converted it to, are fetched once into the
hub's own cache (`HF_HOME`); files of unused splits are not fetched.

A file's name tells its split, by the words that `datasets` knows: train; test or eval;
validation, valid, val or dev. If the name has no such word, its folders decide, the innermost
first. If all files are of one split, or none has such a word, all are training images; otherwise
`data.test_split` is held out.

Images are bytes of JPEG, PNG and so on, in a binary column or in the field `bytes` of a struct, as
`datasets` stores them. They are turned upright. Labels are whole numbers or text.
"""

import collections
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lfbm_jax.errors import Misfit, UserError, summary
from lfbm_jax.files import extras, hub, members
from lfbm_jax.files.members import Member
from lfbm_jax.images import cache, encoded
from lfbm_jax.images.resize import Fit

SUFFIXES = (".parquet", ".arrow")
FIELDS = {"image_field": "image", "label_field": "label"}
WORDS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
CONVERTED = "refs/convert/parquet"  # the branch where the hub puts its converted Parquet files


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the files in `data.dir`, or of the data set `data.name` on the hub.

    Raises:
        UserError: pyarrow or huggingface_hub is missing; there are no such files, or files of
            several subsets; a split or a column does not exist; files or images cannot be used
            (all are counted); the hub does not provide the data set.
    """
    tables = _import("lfbm_jax.files.tables")
    if not data.dir:
        return cache.fill(data, (), lambda: _read_hub(data, tables), tuple(FIELDS))
    place = cache.folder(data.dir)
    if place.is_file():
        place, listed = place.parent, [Member(place.name, place.read_bytes)]
    elif place.is_dir():
        listed = members.in_folder(place)
    else:
        raise UserError(f"data.dir={data.dir!r} is neither a folder nor a file: name one with"
                        f" {' or '.join(SUFFIXES)} files, or leave it empty and name a data set of"
                        " the hub with --config.data.name=OWNER/NAME")
    files = [place / member.name for member in listed if member.name.endswith(SUFFIXES)]
    return cache.fill(data, files, lambda: _read_folder(data, tables, place, listed), tuple(FIELDS))


def _read_folder(data: Any, tables: Any, folder: Path, listed: list[Member]) -> cache.Reading:
    where = f"data.dir={data.dir!r}"
    splits = _splits(data, [member.name for member in listed if not member.left_out], where)
    notes = _left_out({member.name: member.left_out for member in listed}, splits)
    return _Reader(data, tables, where, splits, {name: folder / name for name in splits}, notes)()


def _read_hub(data: Any, tables: Any) -> cache.Reading:
    where = f"data.name={data.name!r}"
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([^@]+))?(?:@(.+))?", data.name)
    if not named:
        raise UserError(f"{where} is not a name on the hub: use OWNER/NAME, OWNER/NAME/SUBSET or"
                        " either with @REVISION, or name a folder with --config.data.dir=FOLDER")
    repository, subset, revision = named.groups()
    api = _import("huggingface_hub").HfApi()
    with _explained(where):
        listed = api.dataset_info(repository, revision=revision)
        if not revision and not any(f.rfilename.endswith(SUFFIXES) for f in listed.siblings):
            listed = api.dataset_info(repository, revision=CONVERTED)
    names = [file.rfilename for file in listed.siblings]
    inside = [name for name in names if not subset or name.startswith(f"{subset}/")]
    if not inside:
        there = sorted({PurePosixPath(name).parts[0] for name in names if "/" in name})
        raise UserError(f"{where}: there is no subset {subset!r}; there are {', '.join(there)}")
    splits = _splits(data, inside, where)
    with _explained(where):
        files = {
            name: api.hf_hub_download(repository, name, repo_type="dataset", revision=listed.sha)
            for name in splits
        }
    notes = [f"fetched at revision {listed.sha}", *_left_out(dict.fromkeys(inside, ""), splits)]
    return _Reader(data, tables, where, splits, {n: Path(f) for n, f in files.items()}, notes)()


def _splits(data: Any, names: Iterable[str], where: str) -> dict[str, str]:
    """Returns the split of each file of the training split and of the held-out split.

    Raises:
        UserError: there are no training files, the split to hold out does not exist, or the files
            are of several subsets.
    """
    names = sorted((n for n in names if n.endswith(SUFFIXES) and not _hidden(n)),
                   key=members.by_name)
    if not names:
        raise UserError(f"{where} has no files {' or '.join(SUFFIXES)}; a folder of images is read"
                        " with --config.data.source=image_folder")
    splits = {name: _split_of(name) for name in names}
    subsets = sorted({_above_split(name) for name, split in splits.items() if split})
    partial = [name for name in names if "/partial-" in f"/{name}"]
    others = sorted(set(splits.values()) - {"", "train"})
    if len(subsets) > 1:
        raise UserError(f"{where} has several subsets ({', '.join(subsets)}): name one, as the end"
                        " of data.dir, or after the name on the hub as OWNER/NAME/SUBSET")
    if partial:
        raise UserError(f"{where}: the hub converted only part of this data set to Parquet files"
                        f" ({partial[0]}): download it and read it by another data.source")
    if len(set(splits.values())) == 1:
        return dict.fromkeys(names, "train")
    if "train" not in splits.values():
        raise UserError(f"{where} has images of {', '.join(others)}, but none to train on: name a"
                        " folder with files whose names say train, or with those of one split")
    if others and data.test_split and data.test_split not in others:
        raise UserError(
            f"data.test_split={data.test_split!r} is not a split of {where} to hold out: use"
            f" {', '.join(map(repr, [*others, '']))}; with '' data.test_fraction of the training"
            " images is held out"
        )
    return {name: split for name, split in splits.items() if split in ("train", data.test_split)
            and split}


def _split_of(name: str) -> str:
    """Returns the split that a path names, or "" if it names none."""
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split("[^a-z]+", part.lower()):
            if word in WORDS:
                return WORDS[word]
    return ""


def _above_split(name: str) -> str:
    """Returns the folder above the part of a path that names its split; "." for the topmost."""
    path = PurePosixPath(name)
    while not _split_of(path.name):
        path = path.parent
    return str(path.parent)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def _left_out(names: Mapping[str, str], read: Iterable[str]) -> list[str]:
    """Counts the files that are not read, by kind, in one line; no line if all are read.

    Args:
        names: for each file, why it cannot be read (a link, say), or "".
        read: the names of the files that are read.
    """
    kinds: collections.Counter[str] = collections.Counter()
    for name in names.keys() - set(read):
        suffix = PurePosixPath(name).suffix or "without a suffix"
        of_others = " of other splits" if suffix in SUFFIXES else ""
        kinds[names[name] or ("hidden" if _hidden(name) else suffix + of_others)] += 1
    counts = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
    return [f"left out: {', '.join(counts)}"] if counts else []


class _Reader:
    """Reads the files of a data set once.

    Args:
        data: the config's section `data`.
        tables: the module `files.tables`.
        where: what to call the data set in an error.
        splits: the split of each file, by its name in the data set.
        files: the path of each file.
        notes: what to tell the user about the files.
    """

    def __init__(
        self,
        data: Any,
        tables: Any,
        where: str,
        splits: dict[str, str],
        files: dict[str, Path],
        notes: list[str],
    ):
        self.tables, self.where, self.splits, self.files = tables, where, splits, files
        self.notes = notes
        self.fit = Fit.of(data)
        self.image, self.label = (data[field] or usual for field, usual in FIELDS.items())
        self._check_columns(label_required=bool(data.label_field))
        held_out = set(splits.values()) - {"train"}
        self.held_out = held_out.pop() if held_out else "test"

    def __call__(self) -> cache.Reading:
        return cache.Reading(
            self._examples(), self._arrange, None, lambda: [*self.fit.notes(), *self.notes]
        )

    def _check_columns(self, label_required: bool) -> None:
        """Finds labels and class names; raises a UserError that counts all unusable files."""
        misfits, schemas = {}, {}
        for name, path in self.files.items():
            try:
                schemas[name] = self.tables.schema(path)
                _check(schemas[name], name, "image_field", self.image, self.tables.holds_images,
                       "encoded images")
                if label_required or self.label in schemas[name].names:
                    _check(schemas[name], name, "label_field", self.label,
                           self.tables.holds_labels, "whole numbers or texts")
            except Misfit as misfit:
                misfits[name] = misfit
        if misfits:
            raise UserError(f"{self.where}: {len(misfits)} of {len(self.files)} files cannot be"
                            f" used: {summary(misfits)}")
        unlabelled = [name for name, schema in schemas.items() if self.label not in schema.names]
        if 0 < len(unlabelled) < len(schemas):
            raise UserError(f"{self.where}: {len(unlabelled)} of {len(schemas)} files have no"
                            f" column {self.label!r} ({unlabelled[0]}), as others have: add it")
        self.classes = _class_names(schemas.values(), self.label)
        if unlabelled:
            self.notes = [*self.notes, f"no labels, as there is no column {self.label!r}"]
            self.label = ""

    def _examples(self) -> Iterator[tuple[tuple[str, Any], np.ndarray]]:
        """Yields ((split, label), image), and at the end raises if any image could not be used."""
        misfits, count = {}, 0
        for file, path in self.files.items():
            for row, (content, label) in enumerate(self.tables.rows(path, self.image, self.label)):
                count += 1
                name = f"row {row} of {file}"
                try:
                    if content is None:
                        raise Misfit(name, "without the bytes of an image", "",
                                     "store the bytes in the files, or leave such rows out")
                    image = encoded.decode(content, name, self.fit.done)
                    yield (self.splits[file], label), self.fit(image, name)
                except Misfit as misfit:
                    misfits[name] = misfit
        if misfits:
            raise UserError(f"{self.where}: {len(misfits)} of {count} images cannot be used:"
                            f" {summary(misfits)}")

    def _arrange(self, keys: list[tuple[str, Any]]) -> cache.Layout:
        """Numbers text labels in alphabetical order and gives single missing labels -1."""
        splits, labels = [split for split, _ in keys], [label for _, label in keys]
        classes, known = self.classes, {label for label in labels if label is not None}
        if any(isinstance(label, str) for label in known):
            classes = sorted(known)
            number = {name: label for label, name in enumerate(classes)}
            labels = [number.get(label) for label in labels]
        if known:
            labels = [-1 if label is None else int(label) for label in labels]
        return cache.by_split(list(zip(splits, labels, strict=True)), classes, self.held_out)


def _check(schema: Any, name: str, setting: str, column: str, holds: Any, wanted: str) -> None:
    """Raises a Misfit if a file lacks a column or has it in another type."""
    remedy = f"name a column of {wanted} with --config.data.{setting}=NAME"
    if column not in schema.names:
        columns = ", ".join(schema.names)
        raise Misfit(name, f"without a column {column!r}", f"it has {columns}", remedy)
    kind = schema.field(column).type
    if not holds(kind):
        raise Misfit(name, f"with a column {column!r} of another type", str(kind), remedy)


def _class_names(schemas: Iterable[Any], column: str) -> list[str] | None:
    """Returns the class names that `datasets` stores in its files, or None if no file has them."""
    for schema in schemas:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", "{}"))
        feature = stored.get("info", {}).get("features", {}).get(column)
        if isinstance(feature, dict) and feature.get("names"):
            return feature["names"]
    return None


def _import(name: str) -> Any:
    return extras.imported(name, "data.source='huggingface'", "huggingface")


def _explained(where: str) -> contextlib.AbstractContextManager[None]:
    remedy = "name a folder of its files with --config.data.dir=FOLDER"
    return hub.explained(where, "data sets", remedy)
