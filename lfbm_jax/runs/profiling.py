"""Writes a trace of a few training steps for TensorBoard's profile plugin."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax


class Profile:
    """Traces some host calls of training, starting with the second, because the first is slower.

    The trace is written to `<workdir>/plugins/profile/`. `tensorboard --logdir=<workdir>` shows it
    if the plugin is installed (`pip install tensorboard xprof`).

    Args:
        workdir: the work directory.
        num_calls: how many host calls to trace; 0 for none.
    """

    def __init__(self, workdir: pathlib.Path, num_calls: int):
        self._workdir = workdir
        self._num_calls = num_calls
        self._seen = 0
        self._tracing = False

    @contextlib.contextmanager
    def call(self, step: int) -> Iterator[None]:
        """Surrounds one host call and the fetching of its results; `step` is its first step."""
        if self._num_calls and self._seen == 1:
            jax.profiler.start_trace(self._workdir)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if self._seen == self._num_calls:
            self.close()
        self._seen += 1

    def close(self) -> None:
        """Writes the trace, even if training ended before `num_calls` calls."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
            print(f"trace: {self._workdir / 'plugins' / 'profile'}", flush=True)
