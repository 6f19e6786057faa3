"""Waits until all processes of a run have started, or says which are missing.

This comes before JAX connects the processes, because JAX's own client aborts the process if others
are missing. Process 0 listens at the coordinator's address until the others have sent their
numbers. Then it answers each of them and frees the port.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Iterable

from lfbm_jax.errors import UserError

RETRY_SECONDS = 0.2
CONNECT_SECONDS = 2.0
# Process 0 may have started later, so the others wait for its answer beyond their own deadline.
GRACE_SECONDS = 5.0
COME = b"come\n"


def meet(address: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Returns once all processes have started.

    Args:
        address: HOST:PORT of process 0.
        num_processes: the number of processes.
        process_id: the number of this process, counted from 0.
        seconds: how long to wait for the others, in seconds.

    Raises:
        UserError: some processes did not start (the message names them), or process 0 cannot
            listen at the port.
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
            f"--coordinator={address}: {_named(missing)} did not start within {seconds:g} s; start"
            " all of them, or wait longer with --wait_seconds"
        )


def _receive(port: int, others: list[int], deadline: float) -> list[int]:
    """Runs in process 0: waits for the others, tells them which are missing, and returns these."""
    came: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server(("", port), reuse_port=False))
        except OSError as error:
            raise UserError(
                f"--coordinator: process 0 cannot listen at port {port} ({error.strerror}); choose"
                " another port"
            ) from error
        while len(came) < len(others) and time.monotonic() < deadline:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            # Other programs, such as monitors, may connect, send anything and hang up.
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
    """Runs in the others: sends process 0 their number, and returns which are missing."""
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
