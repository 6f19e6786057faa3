"""Writes a run's figures and pictures to metrics.jsonl, TensorBoard and folders of PNG files."""

import json
import pathlib

import numpy as np
import tensorboardX

from lfbm_jax.files import atomic
from lfbm_jax.reports import plots


class MetricsWriter:
    """Writes figures and pictures of training into the work directory.

    On resume, lines of `metrics.jsonl` after the restored step are first moved to the end of
    `metrics_cut.jsonl`, and TensorBoard is told to discard their points. A resumed run thus leaves
    the same record as an uninterrupted one.

    Args:
        workdir: the work directory.
        resume_step: the step at which training resumes; 0 at the start.
    """

    def __init__(self, workdir: pathlib.Path, resume_step: int):
        self._workdir = workdir
        path = workdir / "metrics.jsonl"
        _truncate_after(path, resume_step)
        self._metrics = path.open("a", encoding="utf-8")
        self._tensorboard = tensorboardX.SummaryWriter(
            str(workdir), purge_step=resume_step + 1
        )

    def scalars(self, step: int, figures: dict[str, float]) -> None:
        """Writes and flushes one line of metrics.jsonl, and adds a point per TensorBoard curve."""
        self._metrics.write(json.dumps({"step": step} | figures, allow_nan=False) + "\n")
        self._metrics.flush()
        for name, value in figures.items():
            self._tensorboard.add_scalar(name, value, step)

    def image(self, step: int, folder: str, picture: np.ndarray) -> pathlib.Path:
        """Saves a uint8 picture [H, W, C] as `<folder>/<step>.png` and shows it in TensorBoard."""
        path = plots.save(picture, self._workdir / folder / f"{step:08d}.png")
        self._tensorboard.add_image(folder, picture, step, dataformats="HWC")
        return path

    def close(self) -> None:
        self._metrics.close()
        self._tensorboard.close()


def _truncate_after(path: pathlib.Path, step: int) -> None:
    """Moves the lines after `step`, and an unfinished line left by a crash, to another file."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not _is_until(line, step)), len(lines))
    if count == len(lines):
        return
    cut = path.with_name(f"{path.stem}_cut{path.suffix}")
    with cut.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("".join(lines[count:]).removesuffix("\n") + "\n")
    atomic.write_text(path, "".join(lines[:count]))


def _is_until(line: str, step: int) -> bool:
    """Whether this is a complete line for a step up to `step`."""
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except ValueError:
        return False
