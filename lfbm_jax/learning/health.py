"""Warnings about training that goes wrong, each naming the settings to change.

The rules detect diverging chains, a prior that collapses or does not cover the inferred latent
vectors, and reconstructions that stop improving. They use only the lines of `metrics.jsonl`. A
resumed run reads these lines again, so it gives the same warnings as an uninterrupted run.
"""

import collections
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from lfbm_jax.files.lines import whole_lines
from lfbm_jax.images.cache import Split
from lfbm_jax.images.pixels import from_uint8

FAR = 10.0  # In norms of a standard normal vector, which is where a chain starts.
COLLAPSED = 3.0  # Nats of log-determinant per entry of z: samples 20 = e^3 times closer together.
MISMATCH = 1.0  # Nats per entry of z by which inferred vectors are less probable.
SHRINKING = 0.9  # A mismatch that falls below this share of the previous one is improving.
UNEXPLAINED = 0.5  # Share of the images' variance; a trained model is well below.
PROGRESS = 0.02  # Relative; a smaller improvement counts as none.
# How many consecutive readings trigger a warning: for metrics that are logged often, for those that
# are computed with samples, and for the reconstruction error.
OFTEN, SELDOM, STALLED = 3, 2, 10

IMAGES = 1000
FILE = "health.jsonl"


def read(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The warnings of a run: dictionaries with the keys step, problem and message."""
    return [json.loads(line) for line in whole_lines(workdir / FILE)]


class Monitor:
    """Reports each problem once and records it in `health.jsonl` in the work directory.

    Args:
        workdir: the work directory. The lines already in its `metrics.jsonl` are read first.
        config: the config of the run.
        normalized: whether the prior's density is normalised.
        training: the training images. Their variance is the yardstick for the reconstructions.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: ml_collections.ConfigDict,
        normalized: bool,
        training: Split,
    ):
        self._config = config
        self._dim = config.model.latent_dim
        self._normalized = normalized
        images = from_uint8(training.spread(IMAGES).astype(np.float32))
        self._variance = float(np.mean(np.var(images, axis=0)))
        self._history: dict[str, list[float]] = collections.defaultdict(list)
        self._warned: set[str] = set()
        self._path = workdir / FILE
        self._path.unlink(missing_ok=True)
        metrics = workdir / "metrics.jsonl"
        if metrics.exists():
            for line in metrics.read_text(encoding="utf-8").splitlines():
                figures = json.loads(line)
                self.update(figures.pop("step"), figures)

    def update(self, step: int, figures: dict[str, float]) -> list[str]:
        """Adds one line of metrics; returns the messages of problems not reported before."""
        for name, value in figures.items():
            self._history[name].append(value)
        messages = []
        for problem, message in self._problems():
            if problem not in self._warned:
                self._warned.add(problem)
                messages.append(message)
                line = {"step": step, "problem": problem, "message": message}
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        return messages

    def _problems(self) -> Iterator[tuple[str, str]]:
        rules = (
            self._chains_far,
            self._chains_steep,
            self._prior_collapsed,
            self._prior_mismatch,
            self._reconstruction_stalled,
        )
        for rule in rules:
            message = rule()
            if message:
                yield rule.__name__.removeprefix("_"), message

    def _chains_far(self) -> str | None:
        """Detects a norm of z that is many times the norm of a standard normal vector."""
        norms = self._last("train/norm_z", OFTEN)
        normal = math.sqrt(self._dim)
        if norms and min(norms) > FAR * normal:
            return (
                f"chains diverge: the norm of z is {norms[-1]:.3g}, that of a standard normal"
                f" vector {normal:.3g}; lower inference.step_size or optimizer.prior.learning_rate"
            )
        return None

    def _chains_steep(self) -> str | None:
        """Detects a single step that is longer than a standard normal vector."""
        prior = self._last("train/grad_norm_log_prior", OFTEN)
        likelihood = self._last("train/grad_norm_log_likelihood", OFTEN)
        step_size = self._config.inference.get("step_size", 0)
        if not (prior and likelihood and step_size):
            return None
        # The gradient of the log joint is at least as long as their difference.
        drifts = [step_size**2 / 2 * abs(a - b) for a, b in zip(prior, likelihood, strict=True)]
        if min(drifts) > math.sqrt(self._dim):
            steeper = likelihood[-1] > prior[-1]
            return (
                f"chains diverge: the gradient (norm {likelihood[-1]:.3g} of the likelihood,"
                f" {prior[-1]:.3g} of the prior) moves z by {drifts[-1]:.3g} in one step; lower"
                " inference.step_size, or"
                f" {'raise model.sigma' if steeper else 'lower optimizer.prior.learning_rate'}"
            )
        return None

    def _prior_collapsed(self) -> str | None:
        """Detects a diverging log-determinant of z -> z0: samples nearly equal, or far too spread.

        The mean over samples is E[log p(z)] + d/2 (1 + log 2 pi), since E[log q0(z0)] is known.
        """
        log_p_z = self._last("sample/log_p_z", SELDOM)
        if not log_p_z or not self._normalized:
            return None
        constant = (1 + math.log(2 * math.pi)) / 2
        log_dets = [value / self._dim + constant for value in log_p_z]
        if min(map(abs, log_dets)) > COLLAPSED:
            return (
                f"the prior {'collapses' if log_dets[-1] > 0 else 'explodes'}: its log-determinant"
                f" is {log_dets[-1]:.3g} nats per entry of z; lower optimizer.prior.learning_rate,"
                " set optimizer.prior.clip_norm, or inference.noise=True if it is off"
            )
        return None

    def _prior_mismatch(self) -> str | None:
        """Detects inferred z that stay much less probable than the prior's own samples."""
        gaps = [nats / self._dim for nats in self._last("sample/mismatch", SELDOM)]
        if gaps and min(gaps) > MISMATCH and gaps[-1] > SHRINKING * gaps[0]:
            return (
                f"the prior does not follow the inferred z: they are {gaps[-1]:.3g} nats per entry"
                " less probable than its samples, and the gap does not close; raise"
                " optimizer.prior.learning_rate or train.prior_inference_updates, or lower"
                " inference.step_size"
            )
        return None

    def _reconstruction_stalled(self) -> str | None:
        """Detects no progress while much of the images' variance is still unexplained."""
        errors = self._history["train/mse"]
        recent, before = errors[-STALLED:], errors[:-STALLED]
        if not before or len(recent) < STALLED:
            return None
        share = float(np.median(recent)) / self._variance
        if share > UNEXPLAINED and min(recent) > (1 - PROGRESS) * min(before):
            return (
                f"reconstruction stalls: train/mse is {recent[-1]:.3g}, {share:.0%} of the"
                " variance of the images; raise inference.num_steps or inference.step_size, lower"
                " model.sigma, or change optimizer.generator.learning_rate"
            )
        return None

    def _last(self, name: str, count: int) -> list[float]:
        """The last `count` readings of a metric, or none if there are fewer."""
        values = self._history[name][-count:]
        return values if len(values) == count else []
