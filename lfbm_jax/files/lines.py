"""Reads files that grow by a line at a time."""

from pathlib import Path


def whole_lines(path: Path) -> list[str]:
    """The lines of a text file, without a last one that was cut short; [] if there is no file.

    A line is cut short while it is written, and for good if the disk was full.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
