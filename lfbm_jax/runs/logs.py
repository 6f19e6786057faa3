"""Sends log lines of other packages to a file in the work directory instead of the terminal.

With `--alsologtostderr` they stay on the terminal and no file is written.
"""

import contextlib
import logging
import logging.handlers
import pathlib
from collections.abc import Iterator

from absl import flags

FILE = "packages.log"


class _Buffer(logging.handlers.MemoryHandler):
    """Keeps all lines until `write_to` names their file."""

    def __init__(self):
        super().__init__(capacity=0, flushLevel=logging.CRITICAL + 1)

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        return False


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Collects log lines and warnings of the block; drops them if `write_to` is never called."""
    if flags.FLAGS.alsologtostderr:
        yield
        return
    root = logging.getLogger()
    usual = list(root.handlers)
    root.handlers = [_Buffer()]
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers = usual


class _File(logging.FileHandler):
    """The log file of the current run."""


def write_to(folder: pathlib.Path) -> None:
    """Writes the lines collected so far, and all later ones, to `packages.log` in a folder.

    A process that starts another run calls this again.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Buffer | _File)]:
        file = _File(folder / FILE, delay=True, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        if isinstance(old, _Buffer):
            old.setTarget(file)
        old.close()  # A buffer passes its lines on to the file.
        root.handlers = [file if handler is old else handler for handler in root.handlers]
