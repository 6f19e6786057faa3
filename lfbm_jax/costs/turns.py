"""Measured processes that take turns, so other load on the machine affects them alike.

A process prints one JSON object per line: first what it says when it is ready, then an answer to
each request. A request is a line with a number of steps.
"""

import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any, cast

import jax

from lfbm_jax.costs import measure
from lfbm_jax.errors import UserError

# A turn lasts at least this long, so that timings of a fast device exceed the noise.
TURN_SECONDS = 0.5


class Worker:
    """A process that takes training steps on request.

    Attributes:
        ready: the message that the process sent when it was ready.
        seconds: seconds per step, one entry per turn.
        peak_memory_bytes: peak memory after the last turn.
    """

    def __init__(self, process: subprocess.Popen):
        self._process = process
        # Both are pipes, see `started`.
        self._requests = cast(IO[str], process.stdin)
        self._answers = cast(IO[str], process.stdout)
        self._steps_per_turn = 1
        self.ready = self._answer()
        self.seconds: list[float] = []
        self.peak_memory_bytes = 0

    def calibrate(self) -> None:
        """Chooses the number of steps per turn. The very first step may be a slow one."""
        if self.ready["first_seconds"] < 10 * TURN_SECONDS:
            self._steps_per_turn = math.ceil(TURN_SECONDS / self._ask(1)["seconds"])

    def take_turn(self) -> None:
        time.sleep(0.2)  # The other side's threads may still be spinning.
        answer = self._ask(self._steps_per_turn)
        self.seconds.append(answer["seconds"] / self._steps_per_turn)
        self.peak_memory_bytes = answer["peak_memory_bytes"]

    def finish(self) -> dict[str, Any]:
        return self._ask(0)

    def _ask(self, steps: int) -> dict[str, Any]:
        self._requests.write(f"{steps}\n")
        self._requests.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next line that the process prints; raises UserError if it ended instead."""
        line = self._answers.readline()
        if not line:
            raise UserError(f"the measured process ended with status {self._process.wait()}")
        return json.loads(line)


@contextlib.contextmanager
def started(
    command: Sequence[str | os.PathLike],
    environment: Mapping[str, str],
    folder: pathlib.Path | None = None,
) -> Iterator[Worker]:
    """Starts a process in a folder (None: the current one) and waits until it is ready.

    Args:
        command: its command line.
        environment: its environment variables.
        folder: its working directory.
    """
    process = subprocess.Popen(
        [os.fspath(word) for word in command],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Several processes share a GPU, so none may reserve memory in advance.
        env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment},
    )
    try:
        yield Worker(process)
    finally:
        if process.stdin:
            process.stdin.close()
        process.terminate()
        process.wait()


def serve(
    step: measure.Step, precision: str, parts: Collection[str], environment: dict[str, Any]
) -> None:
    """Serves as the measured process, whose other end is a `Worker`.

    Each input line is a number of steps to take; 0 asks for everything else that is measured.

    Args:
        step: the compiled training step.
        precision: the config's precision, in which the ceiling is measured.
        parts: which parts of the step to measure, from `measure.PARTS`.
        environment: what the figures say about this process's versions and commit.
    """
    _say(
        {
            "compile_seconds": step.compile_seconds,
            "first_seconds": step.run(1),
            "device": measure.device_name(),
            "platform": jax.default_backend(),
            "environment": environment,
        }
    )
    for line in sys.stdin:
        steps = int(line)
        if steps:
            seconds = step.run(steps)
            _say({"seconds": seconds, "peak_memory_bytes": measure.peak_memory_bytes()})
            continue
        # After the last turn, as the ceiling's matrices may take more memory than a step does.
        ceilings = [measure.ceiling_gflops(precision)]
        parts_of_step = step.parts(parts)
        ceilings.append(measure.ceiling_gflops(precision))
        _say(
            {
                **parts_of_step,
                "flops_per_step": step.flops(),
                "ceiling_gflops": max(ceilings),
                "estimated_memory_bytes": step.estimated_memory_bytes(),
            }
        )


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)
