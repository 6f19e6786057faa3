"""Processes that meet (as threads of one process), strangers at the port, and a port in use."""

import concurrent.futures
import contextlib
import socket
import struct

import pytest

from lfbm_jax.devices import rendezvous
from lfbm_jax.errors import UserError


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def knock(port, text, reset):
    """What a monitor of ports does: connects, sends something, hangs up or resets."""
    with contextlib.suppress(ConnectionRefusedError):
        with socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
            stranger.sendall(text)
            if reset:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True
    return False


def test_strangers_do_not_disturb_and_the_port_is_free_afterwards():
    port = free_port()
    address = f"127.0.0.1:{port}"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        first = threads.submit(rendezvous.meet, address, 2, 0, 20.0)
        while not knock(port, b"\xff\xfe\n", reset=False):
            assert not first.done()
        assert knock(port, b"GET / HTTP/1.1\r\n\r\n", reset=True)
        assert knock(port, b"", reset=True)
        rendezvous.meet(address, 2, 1, 20.0)
        first.result()
    with socket.create_server(("", port), reuse_port=False):
        pass


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0), reuse_port=False) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"process 0 cannot listen at port {port} .*in use"):
            rendezvous.meet(f"127.0.0.1:{port}", 2, 0, 1.0)
