"""The memory of this process, as opposed to a device's."""

import contextlib
import ctypes


def release() -> None:
    """Returns unused memory to the system, if the C library can do so (glibc).

    Compiling a training step on a CPU takes hundreds of megabytes for a few seconds, which the
    process would otherwise keep.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
