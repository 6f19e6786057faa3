"""Writes a crash report into the work directory of a run that failed."""

import contextlib
import json
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import ml_collections

from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.files.lines import whole_lines
from lfbm_jax.reports.report import environment

LAST_METRICS = 5


@contextlib.contextmanager
def reported(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Writes `crash.json` into the work directory if the block raises, and raises the error again.

    The report holds the error, its traceback, the command, the last lines of `metrics.jsonl`,
    versions, devices and the config. Neither a UserError, whose one line says everything, nor a
    signal leaves a report.
    """
    try:
        yield
    except (UserError, Interrupted):
        raise
    except Exception as error:
        path = workdir / "crash.json"
        try:
            report = json.dumps(_report(error, workdir, config), indent=2, default=str)
            path.write_text(report + "\n", encoding="utf-8")
            print(f"crash report: {path}", file=sys.stderr, flush=True)
        except OSError as second:  # such as a full disk; the first error matters more
            print(f"no crash report: {second}", file=sys.stderr, flush=True)
        raise


def _report(
    error: Exception, workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> dict[str, Any]:
    try:
        logged = whole_lines(workdir / "metrics.jsonl")
    except OSError:
        logged = []
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": sys.argv,
        "error": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)).splitlines(),
        "last_metrics": [json.loads(line) for line in logged[-LAST_METRICS:]],
        **environment(),
        "config": config.to_dict(),
    }
