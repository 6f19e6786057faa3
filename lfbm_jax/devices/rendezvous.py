"""Processes of one run find each other, or learn who is missing, before JAX connects them.

JAX's own client aborts the process where the others do not come. Here process 0 listens at the
coordinator's address until the others have told their numbers, answers, and frees the port again.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Iterable

from lfbm_jax.errors import UserError

RETRY_SECONDS = 0.2
CONNECT_SECONDS = 2.0
# Process 0 may have been started later: its answer is waited for beyond one's own time.
GRACE_SECONDS = 5.0
COME = b"come\n"


def meet(address: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Returns once all processes are there.

    Args:
        address: HOST:PORT of process 0.
        num_processes: how many they are.
        process_id: which this is.
        seconds: how long to wait for the others.

    Raises:
        UserError: some did not come; it names them.
    """
    others = [other for other in range(num_processes) if other != process_id]
    awaited = others if process_id == 0 else [0]
    print(
        f"process {process_id} of {num_processes} waits for {_named(awaited)} at {address},"
        f" at most {seconds:g} s",
        file=sys.stderr,
        flush=True,
    )
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    if process_id == 0:
        missing = _receive(int(port), others, deadline)
    else:
        missing = _report(host, int(port), process_id, deadline)
    if missing:
        raise UserError(
            f"--coordinator={address}: {_named(missing)} did not come within {seconds:g} s; start"
            " all of them, or wait longer with --wait_seconds"
        )


def _receive(port: int, others: list[int], deadline: float) -> list[int]:
    """Process 0: hears of the others and tells them the outcome; who is missing."""
    came: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server(("", port), reuse_port=False))
        except OSError as error:
            raise UserError(
                f"--coordinator: port {port} of process 0 cannot be listened at"
                f" ({error.strerror}); choose another one"
            ) from error
        while len(came) < len(others) and time.monotonic() < deadline:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            # Whoever else looks at the port, as monitors do, may send anything and hang up.
            with contextlib.suppress(OSError, UnicodeDecodeError):
                connection = stack.enter_context(listener.accept()[0])
                connection.settimeout(GRACE_SECONDS)
                text = connection.makefile().readline().strip()
                if text.isdigit() and int(text) in others:
                    came[int(text)] = connection
        missing = sorted(set(others) - came.keys())
        for connection in came.values():
            with contextlib.suppress(OSError):
                connection.sendall(COME if not missing else f"{_joined(missing)}\n".encode())
                connection.recv(1)  # The other side closes first, so that the port is free at once.
    return missing


def _report(host: str, port: int, process_id: int, deadline: float) -> list[int]:
    """Another process: tells process 0 its number and hears the outcome; who is missing."""
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
                connection.sendall(f"{process_id}\n".encode())
                connection.settimeout(max(0.01, deadline - time.monotonic()) + GRACE_SECONDS)
                answer = connection.makefile("rb").readline()
            if answer == COME:
                return []
            if answer:
                return [int(number) for number in answer.split()]
        time.sleep(RETRY_SECONDS)
    return [0]


def _joined(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def _named(numbers: list[int]) -> str:
    names = ", ".join(map(str, numbers))
    return f"process {names}" if len(numbers) == 1 else f"processes {names}"
