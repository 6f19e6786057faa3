"""Several processes, on one host or on many, that train one model together (`jax.distributed`).

All run the same program, each on its own devices and its own share of every batch. The first one
alone reads and writes the work directory and sends the others what it read, so that they need no
file system in common.
"""

import collections
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from lfbm_jax.devices import rendezvous
from lfbm_jax.errors import UserError

# A process that is not heard of for so long is taken for dead, and all others end.
HEARTBEAT_SECONDS = 20
SHUTDOWN_SECONDS = 20
WAIT_SECONDS = 300.0  # for processes that are still to come
MESSAGE_BYTES = 1000
LOST = 1  # exit status

T = TypeVar("T")


def initialize(
    coordinator: str | None,
    num_processes: int | None = None,
    process_id: int | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Joins the other processes of a run; must come before anything is computed.

    Args:
        coordinator: host:port where process 0 may be reached; "auto" where JAX finds out by itself
            (SLURM, Open MPI, Kubernetes, Cloud TPU); None for a single process.
        num_processes, process_id: how many there are and which this is, from 0 on; None to ask
            the launcher.
        wait_seconds: how long to wait for the others.

    Raises:
        UserError: the others do not come, or have another number of devices.
    """
    field = f"--coordinator={coordinator}"
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise UserError("--num_processes and --process_id go with --coordinator=HOST:PORT")
        return
    if coordinator != "auto" and not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"{field}: use HOST:PORT, or auto under SLURM, Open MPI or on TPUs")
    # JAX's own way of noticing SIGTERM would take the signal from the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    known = coordinator != "auto" and num_processes is not None and process_id is not None
    if known and 1 < num_processes and process_id < num_processes:
        rendezvous.meet(coordinator, num_processes, process_id, wait_seconds)
        wait_seconds = max(wait_seconds, WAIT_SECONDS)  # All are there: JAX gets time to connect.
    elif coordinator == "auto":
        print(f"{field}: waits for all processes that the launcher has started, at most"
              f" {wait_seconds:g} s", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator,
            num_processes,
            process_id,
            initialization_timeout=max(1, round(wait_seconds)),
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{field}: {error}; give --coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from error
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        few, many = min(counts, key=counts.get), max(counts, key=counts.get)
        raise UserError(
            f"{field}: process {few} has {counts[few]} devices and process {many} has"
            f" {counts[many]}; give all of them as many (CUDA_VISIBLE_DEVICES chooses GPUs)"
        )


def is_first() -> bool:
    """Whether this is the process that reads and writes the work directory."""
    return jax.process_index() == 0


def largest(number: int) -> int:
    """The largest of the numbers that the processes give; all of them have to call this."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def everywhere(function: Callable[[], T]) -> T:
    """function() in every process; where it fails in one of them, it fails in all.

    Without that the others would wait for the failed one in their next exchange.
    """
    if jax.process_count() == 1:
        return function()
    result, failure = None, None
    try:
        result = function()
    except Exception as error:
        failure = error
    if largest(failure is not None):
        texts = _gather_texts("" if failure is None else str(failure) or type(failure).__name__)
        if failure is not None:
            raise failure
        process, text = next((i, text) for i, text in enumerate(texts) if text)
        raise UserError(f"process {process}: {text}")
    return result


def first_before_others(function: Callable[[], T]) -> T:
    """function() in every process, once the first one is through: they find what it left."""
    everywhere(lambda: function() if is_first() else None)
    return everywhere(function)


def from_first(function: Callable[[], T | None], like: T) -> T | None:
    """What function() gives in the first process, in all of them; the others do not call it.

    Args:
        function: gives a pytree of arrays, or None.
        like: a pytree of the same structure, shapes and types; its values are not used.
    """
    if jax.process_count() == 1:
        return function()
    result = everywhere(lambda: function() if is_first() else None)
    if not largest(result is not None):
        return None
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    return multihost_utils.broadcast_one_to_all(blank if result is None else result)


@contextlib.contextmanager
def own_folder(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where this process writes: the work directory, or for all but the first a temporary folder.

    What all processes would write is the same; theirs is removed at the end. When left without an
    error, waits for the others.
    """
    if is_first():
        yield workdir
    else:
        with tempfile.TemporaryDirectory(prefix="lfbm_jax-") as folder:
            yield pathlib.Path(folder)
    largest(0)


@contextlib.contextmanager
def noticing_losses() -> Iterator[None]:
    """Ends this process with one line where an exchange fails because another process has ended.

    Where the exchange waits instead of failing, JAX ends this process after HEARTBEAT_SECONDS.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} can work no longer with"
            f" the others ({str(error).splitlines()[0]}): one has ended, see its own output; start"
            " all of them again to go on from the newest checkpoint",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(LOST)  # The usual end would wait for the others.


def _gather_texts(text: str) -> list[str]:
    """The text of every process, cut to MESSAGE_BYTES."""
    padded = text.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0")
    rows: Any = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]
