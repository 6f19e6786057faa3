"""Reads TensorFlow Datasets: `svhn_cropped`, `cifar10`, `celeb_a`, `mnist` and all others.

TFDS downloads the original files, or takes them from `data.manual_dir`, verifies their checksums
and writes records, from which the cache is filled. Only this module imports TensorFlow, inside
functions. Once the cache is filled, neither TensorFlow nor TFDS has to be installed, and the
records (in `data.dir`, or else in the folder `tfds` of the cache) may be removed.
"""

import contextlib
import io
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.files import atomic, web_page
from lfbm_jax.images import cache
from lfbm_jax.images.resize import Fit

CONNECT_SECONDS = 4  # TFDS itself would retry a host that cannot be reached for 200 s.
INSTALL = "pip install 'lfbm_jax[tfds]'"


def prepare(data: Any) -> cache.Cache:
    """Returns the cache of the splits `train` and `data.test_split` of the data set `data.name`.

    Labels are those of the feature `label`, if it exists (celeb_a has none).

    Raises:
        UserError: the name or the split is unknown; TFDS or TensorFlow is missing; the original
            files are not in `data.manual_dir` and cannot be downloaded; files are not the
            originals; or the images do not suit the config (see `resize.Fit`).
    """
    return cache.fill(data, files=(), read=lambda: _read(data))


def _read(data: Any) -> cache.Reading:
    fit = Fit.of(data)
    builder = _prepared_builder(data)
    if "image" not in builder.info.features or "train" not in builder.info.splits:
        raise UserError(f"data.name={data.name!r}: that data set has no training images")
    held_out = _held_out_split(data, list(builder.info.splits))
    decoders = {"image": _import_tfds(data).decode.SkipDecoding()}  # Pillow decodes, as elsewhere.
    splits = {
        name: builder.as_data_source(name, decoders=decoders)
        for name in filter(None, ("train", held_out))
    }
    features = builder.info.features
    classes = features["label"].names if "label" in features else None

    def examples() -> Iterator[tuple[tuple[str, int | None], np.ndarray]]:
        for split, source in splits.items():
            for index, example in enumerate(source):
                image = Image.open(io.BytesIO(example["image"]))
                label = None if classes is None else int(example["label"])
                yield (split, label), fit(image, f"image {index} of {data.name} ({split})")

    def arrange(keys: list[tuple[str, int | None]]) -> cache.Layout:
        return cache.by_split(keys, classes, held_out)

    return cache.Reading(examples(), arrange, sum(map(len, splits.values())), fit.notes)


def _held_out_split(data: Any, splits: list[str]) -> str:
    """Checks and returns `data.test_split`; with '', `data.test_fraction` decides instead."""
    others = [name for name in splits if name != "train"]
    if data.test_split and data.test_split not in others:
        raise UserError(
            f"data.test_split={data.test_split!r} is not a split of {data.name} to hold out: use"
            f" {', '.join([*others, repr('')])}; with '' data.test_fraction of the training images"
            " is held out"
        )
    return data.test_split


def _prepared_builder(data: Any) -> Any:
    """Returns the TFDS builder of `data.name`, after writing its records if necessary."""
    tfds = _import_tfds(data)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    own = cache.cache_root(data) / "tfds"
    try:
        builder = tfds.builder(
            data.name,
            data_dir=cache.folder(data.dir) if data.dir else own,
            file_format="array_record",
        )
    except tfds.core.DatasetNotFoundError:
        near = did_you_mean(data.name, tfds.list_builders())
        raise UserError(f"data.name={data.name!r} is not a data set of TFDS: {near}") from None
    own.mkdir(exist_ok=True)
    with atomic.locked(own / f".{builder.name}.lock"), _explained(data):
        if not builder.data_path.exists():
            _check_files(data, builder, own / "downloads")
            builder.download_and_prepare(
                download_dir=own / "downloads",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=cache.folder(data.manual_dir) if data.manual_dir else None,
                    # TFDS names the extracted content of files in `manual_dir` by the names of
                    # these files. MNIST and Fashion-MNIST share them, so each needs a folder.
                    extract_dir=own / "extracted" / builder.name,
                    try_download_gcs=False,  # Only the original files have checksums.
                ),
            )
    return builder


def _import_tfds(data: Any) -> Any:
    try:
        import tensorflow  # noqa: F401  (the builders read their files with it)
        import tensorflow_datasets
    except ImportError as error:
        files = "; or name the folder of its four IDX files by data.dir"
        raise UserError(
            f"data.name={data.name!r}: TFDS prepares it with TensorFlow, and {error.name} is not"
            f" installed: {INSTALL}{files if data.source == 'idx' else ''}"
        ) from error
    return tensorflow_datasets


def _check_files(data: Any, builder: Any, downloads: Path) -> None:
    """Raises a UserError if a given file is not the original or a missing one's host is silent."""
    from tensorflow_datasets.core.download import resource

    manual = cache.folder(data.manual_dir) if data.manual_dir else None
    if manual and not manual.is_dir():
        raise UserError(f"data.manual_dir={data.manual_dir!r} is not a folder: name the one with"
                        f" the original files of {builder.name}")
    missing: dict[str, str] = {}
    others: list[str] = []
    for url, info in (builder.url_infos or {}).items():
        given = manual and info.filename and (manual / info.filename).is_file()
        if given:
            others += filter(None, [_other_file(manual / info.filename, info.size)])
        download = downloads / builder.name / resource.get_dl_fname(url, info.checksum)
        if not given and not resource.is_locally_cached(download):
            missing[url] = info.filename
    if others:
        also = f"; missing: {', '.join(missing.values())}" if missing else ""
        raise UserError(
            f"data.manual_dir={data.manual_dir!r}: {'; '.join(others)}: put the original files"
            f" there{also}"
        )
    silent = _silent_hosts(list(missing))
    if silent:
        files = ", ".join(f"{name} ({url})" for url, name in missing.items())
        raise UserError(
            f"data.name={data.name!r} has to be downloaded, but {', '.join(silent)} cannot be"
            f" reached: put these files into a folder and name it with"
            f" --config.data.manual_dir=FOLDER: {files}"
        )


def _other_file(path: Path, size: int) -> str | None:
    """Says how a file's beginning or size differs from the original's; None if they agree."""
    if web_page.is_web_page(path):
        return f"{path.name} is a web page (a notice of a quota or an error?), not the file itself"
    found = path.stat().st_size
    if found == size:
        return None
    kind = "truncated" if found < size else "another file"
    return f"{path.name} is {kind}: it has {found:,} bytes, the original {size:,}"


def _silent_hosts(urls: list[str]) -> list[str]:
    """Returns the hosts that send no answer, not even an error, within CONNECT_SECONDS."""
    import requests

    silent = {urlsplit(url).hostname or "": url for url in urls}

    def ask(host: str, url: str) -> None:
        with contextlib.suppress(requests.RequestException):
            requests.head(url, timeout=CONNECT_SECONDS)
            del silent[host]

    # Name look-ups have no time limit, so threads that exceed ours are left behind.
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in silent.items()]
    deadline = time.monotonic() + CONNECT_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return sorted(silent)


@contextlib.contextmanager
def _explained(data: Any) -> Iterator[None]:
    """Turns the errors of TFDS about downloads, checksums and disk space into a UserError."""
    import requests
    from tensorflow_datasets.core.download import download_manager, util

    try:
        yield
    except download_manager.NonMatchingChecksumError as error:
        what = str(error).splitlines()[0].rstrip(":")
        place = re.search(r", downloaded to (.*), has wrong checksum", what)
        if place and web_page.is_web_page(Path(place[1])):
            what += ", as it is a web page (a notice of a quota or an error?)"
        raise UserError(
            f"data.name={data.name!r}: {what}: put the original file into a folder and name it with"
            " --config.data.manual_dir=FOLDER"
        ) from error
    except (util.DownloadError, requests.RequestException) as error:
        raise UserError(
            f"data.name={data.name!r} could not be downloaded ({error}): try again, or put the"
            " files into a folder and name it with --config.data.manual_dir=FOLDER"
        ) from error
    except OSError as error:
        if "Not enough disk space" not in str(error):
            raise
        raise UserError(f"data.cache_dir: {error}: make room or name another folder with"
                        " --config.data.cache_dir=FOLDER") from error
