"""What the terminal shows beside results and warnings: progress bars, and notes on what is done.

TQDM_DISABLE=1, which `--quiet` sets, leaves both out, in the processes that a command starts too.
"""

import os
from typing import Any

from tqdm import tqdm

QUIET = "TQDM_DISABLE"


def be_quiet() -> None:
    """Leaves bars and notes out from now on."""
    os.environ[QUIET] = "1"


def is_quiet() -> bool:
    """Whether bars and notes are left out."""
    return os.environ.get(QUIET, "0") not in ("", "0")


def bar(*args: Any, disable: bool | None = False, **settings: Any) -> tqdm:
    """A progress bar; takes the arguments of `tqdm.tqdm`."""
    return tqdm(*args, disable=is_quiet() or disable, **settings)


def note(text: str) -> None:
    """Prints a line that says what is being done."""
    if not is_quiet():
        print(text, flush=True)
