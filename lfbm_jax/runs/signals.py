"""Turns SIGTERM and SIGINT into requests to stop after the current call of training steps."""

import contextlib
import signal
import time
from collections.abc import Iterator

SECOND_SIGNAL_SECONDS = 1.0


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT in a list. A second signal of the same kind ends the process.

    Repetitions within a second of the first are ignored, because a dying parent with many threads,
    or a scheduler that signals a group and its members, sends one signal several times.
    """
    received: list[int] = []
    times: dict[int, float] = {}

    def handle(signum, frame):
        del frame
        now = time.monotonic()
        if now - times.setdefault(signum, now) > SECOND_SIGNAL_SECONDS:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        received.append(signum)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
