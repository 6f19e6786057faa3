"""Log lines of other packages go to a file of the work directory; the terminal shows our words.

`--alsologtostderr` shows them on the terminal as well as before.
"""

import contextlib
import logging
import logging.handlers
import pathlib
from collections.abc import Iterator

from absl import flags

FILE = "packages.log"


class _Buffer(logging.handlers.MemoryHandler):
    """Keeps all lines until it is known which file they belong to."""

    def __init__(self):
        super().__init__(capacity=0, flushLevel=logging.CRITICAL + 1)

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        return False


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Keeps log lines and warnings off the terminal inside; without `write_to` they are dropped."""
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
    """The file of the run that the process is at."""


def write_to(folder: pathlib.Path) -> None:
    """From now on, and for all lines collected so far: the file `packages.log` of a folder.

    A process that comes to another run calls this again.
    """
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Buffer | _File)]:
        file = _File(folder / FILE, delay=True, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        if isinstance(old, _Buffer):
            old.setTarget(file)
        old.close()  # A buffer hands its lines over.
        root.handlers = [file if handler is old else handler for handler in root.handlers]
