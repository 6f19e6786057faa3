"""The speed of a config's training step: `python -m lfbm_jax.benchmark --config=configs/svhn.py`.

With --peer=pytorch (or pytorch-compile) the same step in plain PyTorch runs in a second process,
and the two take turns, so that what else the machine does hits both alike. Random images: no data
set is needed.
"""

import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from absl import flags
from tqdm import tqdm

from lfbm_jax.costs import measure
from lfbm_jax.errors import UserError
from lfbm_jax.layers import precision
from lfbm_jax.runs import build, cli, given

PEER = pathlib.Path(__file__).parent.parent / "tests" / "peers" / "pytorch_lfbm.py"
PEERS = ("pytorch", "pytorch-compile")
# A turn lasts at least this long, so that a fast device's steps can be told apart from noise.
TURN_SECONDS = 0.5

_PEER = flags.DEFINE_enum("peer", None, PEERS, "what to compare with")
_STEPS = flags.DEFINE_integer("steps", 5, "turns of each side", lower_bound=1)
# allow_override: another command has a flag of this name, and a process may import both.
_OUT = flags.DEFINE_string(
    "out", None, "where to write the figures as JSON", allow_override=True
)
_PARTS = flags.DEFINE_bool("parts", True, "also time inference and the updates one by one")
_WORKER = flags.DEFINE_bool("worker", False, "(the benchmark's own: be the measured process)")
flags.adopt_module_key_flags(given)


def main(config: ml_collections.ConfigDict) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # What compiling takes is measured.
    if _WORKER.value:
        with precision.of_networks(config):
            _work(config)
        return
    figures = compare(config)
    print(table(figures))
    if _OUT.value:
        path = pathlib.Path(_OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")


def compare(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """All figures of a config, and those of the peer under "peer"."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_worker([sys.executable, "-m", "lfbm_jax.benchmark",
                                            *sys.argv[1:], "--worker"]))
        ready = ours.answer()
        workers = [ours]
        if _PEER.value:
            spec = peer_spec(config, _PEER.value == "pytorch-compile", _torch_device(ready))
            peer = stack.enter_context(_worker([sys.executable, PEER, json.dumps(spec)]))
            workers.append(peer)
            peer.calibrate(peer.answer()["first_seconds"])
        ours.calibrate(ready["first_seconds"])
        for _ in tqdm(range(_STEPS.value), desc="measuring", unit="turn", leave=False):
            for worker in workers:
                worker.take_turn()
        # Asked for last: it includes the time to compile the parts, which is nobody's turn.
        figures = ours.finish()
    seconds = statistics.median(ours.seconds)
    batch, flops = config.train.batch_size, figures["flops_per_step"]
    figures = {
        "config": ":".join(filter(None, given.config_file())),
        "model": f"{config.prior.name} prior, {config.inference.name} inference",
        "device": ready["device"],
        "precision": config.precision,
        "batch_size": batch,
        "seconds_per_step": seconds,
        "images_per_second": batch / seconds,
        **figures,
        "achieved_gflops": flops / seconds / 1e9,
        "achieved_to_ceiling": flops / seconds / 1e9 / figures["ceiling_gflops"],
        "compile_seconds": ready["compile_seconds"],
        "peak_memory_bytes": ours.peak_memory_bytes,
    }
    if _PEER.value:
        ratios = [b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]
        figures["peer"] = {
            "name": _PEER.value,
            "seconds_per_step": statistics.median(peer.seconds),
            "peak_memory_bytes": peer.peak_memory_bytes,
            "ratio": {
                "median": statistics.median(ratios),
                "min": min(ratios),
                "max": max(ratios),
            },
        }
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    rows = []
    for name, value in figures.items():
        if name != "peer":
            rows.append((name, _shown(name, value)))
    peer = figures.get("peer", {})
    for name, value in peer.items():
        if name == "ratio":
            value = "{median:.2f} ({min:.2f} to {max:.2f})".format(**value)
        rows.append((f"peer {name}", _shown(name, value)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def peer_spec(
    config: ml_collections.ConfigDict, compiled: bool, device: str
) -> dict[str, Any]:
    """What the PyTorch peer has to know of a config.

    Raises:
        UserError: the peer has no such prior, generator or inference.
    """
    for section, known in (("prior", "glow"), ("generator", "convnet"), ("inference", "langevin")):
        name = config[section].name
        if name != known:
            raise UserError(f"--peer: PyTorch's side has {section} {known!r} only, not {name!r}")
    side = config.data.image_size
    return {
        "latent_dim": config.model.latent_dim,
        "image_shape": [side, side, config.data.channels],
        "layers": [list(layer) for layer in config.generator.layers],
        "sigma": config.model.sigma,
        "flow_steps": config.prior.num_steps,
        "hidden_width": config.prior.hidden_width,
        "num_steps": config.inference.num_steps,
        "step_size": config.inference.step_size,
        "batch_size": config.train.batch_size,
        "prior_learning_rate": config.optimizer.prior.learning_rate,
        "generator_learning_rate": config.optimizer.generator.learning_rate,
        "b1": config.optimizer.generator.b1,
        "b2": config.optimizer.generator.b2,
        "precision": config.precision,
        "threads": measure.num_threads(),
        "compile": compiled,
        "device": device,
    }


class _Worker:
    """A process that takes steps when told to.

    Attributes:
        seconds: a step's in every turn.
        peak_memory_bytes: after the last turn.
    """

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._steps_a_turn = 1
        self.seconds: list[float] = []
        self.peak_memory_bytes = 0

    def answer(self) -> dict[str, Any]:
        """The next line that the process prints; UserError where it ended instead."""
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"the measured process ended with status {self._process.wait()}")
        return json.loads(line)

    def calibrate(self, first_seconds: float) -> None:
        """Chooses how many steps a turn has; the first step of all may be a slow one."""
        if first_seconds < 10 * TURN_SECONDS:
            self._steps_a_turn = math.ceil(TURN_SECONDS / self._ask(1)["seconds"])

    def take_turn(self) -> None:
        time.sleep(0.2)  # The other side's threads may still be spinning.
        answer = self._ask(self._steps_a_turn)
        self.seconds.append(answer["seconds"] / self._steps_a_turn)
        self.peak_memory_bytes = answer["peak_memory_bytes"]

    def finish(self) -> dict[str, Any]:
        return self._ask(0)

    def _ask(self, steps: int) -> dict[str, Any]:
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self.answer()


@contextlib.contextmanager
def _worker(command: list[Any]) -> Iterator[_Worker]:
    if not pathlib.Path(PEER).exists() and PEER in command:
        raise UserError(f"--peer: {PEER} is missing: run the benchmark from a clone")
    process = subprocess.Popen(
        list(map(os.fspath, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield _Worker(process)
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()


def _work(config: ml_collections.ConfigDict) -> None:
    """Takes steps as told, line by line; told 0, measures all that is not a step, and ends."""
    ceilings = [measure.ceiling_gflops(config.precision)]
    step = measure.Step(config, build.model(config))
    _say(
        {
            "compile_seconds": step.compile_seconds,
            "first_seconds": step.run(1),
            "device": measure.device_name(),
            "platform": jax.default_backend(),
        }
    )
    for line in sys.stdin:
        steps = int(line)
        if steps:
            seconds = step.run(steps)
            _say({"seconds": seconds, "peak_memory_bytes": measure.peak_memory_bytes()})
            continue
        ceilings.append(measure.ceiling_gflops(config.precision))
        parts = step.parts() if _PARTS.value else {}
        _say({**parts, "flops_per_step": step.flops(), "ceiling_gflops": max(ceilings)})


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _torch_device(ready: dict[str, Any]) -> str:
    return "cpu" if ready["platform"] == "cpu" else "cuda"


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if name == "flops_per_step":
        return f"{value / 1e12:.3f} x 10^12"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(main, given.config)
