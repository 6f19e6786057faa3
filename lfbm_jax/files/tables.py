"""Reads Parquet and Arrow files piece by piece with pyarrow, which only this module imports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute, ipc, parquet, types

from lfbm_jax.errors import Misfit, UserError
from lfbm_jax.files.web_page import is_web_page

ROWS = 32  # how many rows of a Parquet file are in memory at once
ARROW_FILE = b"ARROW1"  # the first bytes of Arrow's file format; its stream format begins otherwise
LFS_POINTER = b"version https://git-lfs"


def schema(path: Path) -> pa.Schema:
    """Returns the names and types of a file's columns.

    Raises:
        Misfit: the file is truncated or damaged, or is not of this format.
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            begin = file.read(len(LFS_POINTER))
        if begin == LFS_POINTER:
            raise Misfit(path.name, "a pointer of Git LFS, not the file itself", "",
                         "fetch what it points to with: git lfs pull")
        if is_web_page(path):
            raise Misfit(path.name, "a web page, not the file itself", "", "fetch them again")
        if path.suffix == ".parquet":
            return parquet.read_schema(path)
        with pa.memory_map(str(path)) as file:
            return _opened_arrow(file).schema
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk
            raise UserError(f"{path} cannot be read ({error.strerror}); try again") from error
        raise Misfit(path.name, "truncated or damaged", "", "fetch them again") from error


def rows(path: Path, image_column: str, label_column: str) -> Iterator[tuple[bytes | None, Any]]:
    """Yields the bytes of the image and the label of each row, None for a missing value.

    Args:
        path: a file that `schema` could read.
        image_column: a column whose type `holds_images`.
        label_column: a column whose type `holds_labels`, or "" for no labels.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    columns = list(filter(None, (image_column, label_column)))
    try:
        for batch in _batches(path, columns):
            images = batch.column(0)
            if types.is_struct(images.type):
                images = compute.struct_field(images, "bytes")
            labels = batch.column(1).to_pylist() if label_column else [None] * len(images)
            for image, label in zip(images, labels, strict=True):
                yield image.as_py(), label
    except (OSError, pa.ArrowException) as error:
        said = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is damaged or cannot be read ({said}): run the same command again,"
                        " or fetch the file again") from error


def holds_images(kind: pa.DataType) -> bool:
    """Tells whether a type is bytes, or a struct with a field `bytes` of that type."""
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and holds_images(kind.field(index).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def holds_labels(kind: pa.DataType) -> bool:
    """Tells whether a type is whole numbers, truth values or text."""
    of = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    return any(holds(kind) for holds in of)


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yields these columns of a file, in this order, piece by piece."""
    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=columns):
                yield batch.select(columns)
        return
    with pa.memory_map(str(path)) as file:
        opened = _opened_arrow(file)
        if isinstance(opened, ipc.RecordBatchFileReader):
            opened = map(opened.get_batch, range(opened.num_record_batches))
        for batch in opened:
            yield batch.select(columns)


def _opened_arrow(file: pa.MemoryMappedFile) -> Any:
    begin = file.read(len(ARROW_FILE))
    file.seek(0)
    return (ipc.open_file if begin == ARROW_FILE else ipc.open_stream)(file)
