"""Coordinates several processes, on one or many hosts, that train one model (`jax.distributed`).

All run the same program, each on its own devices and its own share of every batch. Only the first
process reads and writes the work directory. It sends the others what it has read, so no shared file
system is needed.
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

# A process that has been silent for this long is considered dead, and all others end.
HEARTBEAT_SECONDS = 20
SHUTDOWN_SECONDS = 20
WAIT_SECONDS = 300.0  # How long to wait for processes that have not joined yet.
MESSAGE_BYTES = 1000
LOST = 1  # The exit status of a process that has lost another one.

T = TypeVar("T")


def initialize(
    coordinator: str | None,
    num_processes: int | None = None,
    process_id: int | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Joins the other processes of a run. Must be called before anything is computed.

    Args:
        coordinator: HOST:PORT of process 0; "auto" to let JAX ask the launcher (SLURM, Open MPI,
            Kubernetes, Cloud TPU); None for a single process.
        num_processes: the number of processes; None to ask the launcher.
        process_id: the number of this process, counted from 0; None to ask the launcher.
        wait_seconds: how long to wait for the others, in seconds.

    Raises:
        UserError: the arguments do not fit together, the others do not join in time, or the
            processes have different numbers of devices.
    """
    field = f"--coordinator={coordinator}"
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise UserError("--num_processes and --process_id go with --coordinator=HOST:PORT")
        return
    if coordinator != "auto" and not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"{field}: use HOST:PORT, or auto under SLURM, Open MPI or on TPUs")
    # JAX's own handler of SIGTERM would take the signal away from the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    if (
        coordinator != "auto"
        and num_processes is not None
        and process_id is not None
        and 1 < num_processes
        and process_id < num_processes
    ):
        rendezvous.meet(coordinator, num_processes, process_id, wait_seconds)
        wait_seconds = max(wait_seconds, WAIT_SECONDS)  # All are there: leave JAX time to connect.
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
        count_of = counts.__getitem__
        few, many = min(counts, key=count_of), max(counts, key=count_of)
        raise UserError(
            f"{field}: process {few} has {counts[few]} devices and process {many} has"
            f" {counts[many]}; give all of them the same number (CUDA_VISIBLE_DEVICES chooses GPUs)"
        )


def is_first() -> bool:
    """Whether this is the process that reads and writes the work directory."""
    return jax.process_index() == 0


def largest(number: int) -> int:
    """The largest of the numbers that the processes pass. All processes must call this."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def everywhere(function: Callable[[], T]) -> T:
    """Calls a function in every process. If it fails in one of them, it fails in all.

    Otherwise the others would wait for the failed process in their next exchange.
    """
    if jax.process_count() == 1:
        return function()
    failure = None
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
    """Calls a function in the first process, whose files the others find when they call it next."""
    everywhere(lambda: function() if is_first() else None)
    return everywhere(function)


def from_first(function: Callable[[], T | None], like: T) -> T | None:
    """Calls a function in the first process only and returns its result in all of them.

    Args:
        function: returns a pytree of arrays, or None.
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
    """Yields the folder that this process writes to.

    For the first process this is the work directory. All others would write the same files, so each
    gets a temporary folder, which is removed at the end. If the block ends without an error, waits
    for the other processes.
    """
    if is_first():
        yield workdir
    else:
        with tempfile.TemporaryDirectory(prefix="lfbm_jax-") as folder:
            yield pathlib.Path(folder)
    largest(0)


def memory_fault(error: Exception) -> str | None:
    """The line that says that a device ran out of memory; None if the error is another one."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        return None
    return (
        f"a device is out of memory ({text.splitlines()[0]}): set train.microbatch_size, for which"
        " --mode=describe finds a value, or lower train.batch_size or a task's batch_size"
    )


@contextlib.contextmanager
def noticing_losses() -> Iterator[None]:
    """Ends this process with one line if an exchange fails because another process has ended.

    If the exchange hangs instead of failing, JAX ends this process after HEARTBEAT_SECONDS.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        lost = (
            f"process {jax.process_index()} of {jax.process_count()} can no longer work with"
            f" the others ({str(error).splitlines()[0]}): one has ended (see its own output); start"
            " all of them again to resume from the newest checkpoint"
        )
        print(f"error: {memory_fault(error) or lost}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(LOST)  # A normal exit would wait for the others.


def _gather_texts(text: str) -> list[str]:
    """Gathers the texts of all processes, each cut to MESSAGE_BYTES."""
    padded = text.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0")
    rows: Any = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]
