"""The memory of this process, as opposed to a device's."""

import contextlib
import ctypes


def release() -> None:
    """Gives memory that is no longer in use back to the system, where its C library can (glibc).

    Compiling a training step on a CPU takes hundreds of megabytes for a few seconds, which the
    process would keep otherwise.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
