"""Times a config's training step: `python -m lfbm_jax.benchmark --config=configs/svhn.py`.

Each --peer is timed in a process of its own. All processes take turns, so other load on the machine
affects them alike:

    --peer=pytorch, --peer=pytorch-compile   the same step in plain PyTorch, eager or compiled
    --peer=deterministic                     the same config with `deterministic` switched
    --peer=../before                         the same config in another checkout of this repository

The images are random, so no data set is needed.
"""

import contextlib
import importlib.util
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
from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.files import atomic
from lfbm_jax.layers import precision
from lfbm_jax.reports import report
from lfbm_jax.runs import build, cli, comparable, given, workdir

PEER = pathlib.Path(__file__).parent.parent / "tests" / "peers" / "pytorch_lfbm.py"
PYTORCH, PYTORCH_COMPILE, DETERMINISTIC = "pytorch", "pytorch-compile", "deterministic"
# A turn lasts at least this long, so that timings of a fast device exceed the noise.
TURN_SECONDS = 0.5

_PEERS = flags.DEFINE_multi_string(
    "peer",
    [],
    f"what to compare with: {PYTORCH}, {PYTORCH_COMPILE}, {DETERMINISTIC}, or the folder of another"
    " checkout; may be given several times",
)
_STEPS = flags.DEFINE_integer("steps", 5, "turns per process", lower_bound=1)
# allow_override: another command has a flag of this name, and a process may import both.
_OUT = flags.DEFINE_string(
    "out", None, "where to write the figures as JSON", allow_override=True
)
_PARTS = flags.DEFINE_list(
    "parts",
    list(measure.PARTS),
    "what to time besides the whole step; --parts= for nothing else",
    allow_override=True,
)
_WORKER = flags.DEFINE_bool("worker", False, "(internal: run as the measured process)")
flags.adopt_module_key_flags(given)


def main(config: ml_collections.ConfigDict) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # Compile times are measured.
    for part in _PARTS.value:
        if part not in measure.PARTS:
            raise UserError(f"--parts={part}: {did_you_mean(part, list(measure.PARTS))}")
    if _WORKER.value:
        with precision.of_networks(config):
            _work(config)
        return
    if given.WORKDIR.value:
        workdir.claim(pathlib.Path(given.WORKDIR.value), config)
    figures = compare(config)
    print(table(figures))
    if _OUT.value:
        path = pathlib.Path(_OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(figures, path)
    if given.WORKDIR.value:
        path = pathlib.Path(given.WORKDIR.value) / "reports" / "benchmark.json"
        path.parent.mkdir(exist_ok=True)
        numbers = {k: v for k, v in figures.items() if isinstance(v, int | float)}
        setup = {"images": "random"} | figures["environment"]
        _write({"task": "benchmark", "step": 0, "figures": numbers, "setup": setup}, path)


def compare(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Measures a config; returns its figures by name, with those of its peers under "peers".

    Raises:
        UserError: a peer is unknown or cannot run this config, or a measured process ended early.
    """
    for name in _PEERS.value:
        _check_peer(name, config)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_worker(_jax_command(f"--parts={','.join(_PARTS.value)}")))
        ready = ours.ready
        peers = {}
        for name in _PEERS.value:
            command, folder = _peer_command(name, config, ready["platform"])
            peers[name] = stack.enter_context(_worker(command, folder))
        workers = [ours, *peers.values()]
        for worker in workers:
            worker.calibrate()
        for _ in tqdm(range(_STEPS.value), desc="measuring", unit="turn", leave=False):
            for worker in workers:
                worker.take_turn()
        # Last, because it compiles and times the parts, which belongs to no turn.
        figures = ours.finish()
    seconds = statistics.median(ours.seconds)
    batch, flops = config.train.batch_size, figures["flops_per_step"]
    return {
        "config": ":".join(filter(None, given.config_file())),
        "data": comparable.data_set(config),
        "method": comparable.method(config),
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
        "environment": ready["environment"],
        "peers": {name: _beside(ours, peer) for name, peer in peers.items()},
    }


def _beside(ours: "_Worker", peer: "_Worker") -> dict[str, Any]:
    """A peer's figures, with our speed and our memory as multiples of the peer's."""
    ratios = [b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]
    return {
        "seconds_per_step": statistics.median(peer.seconds),
        "peak_memory_bytes": peer.peak_memory_bytes,
        "speed_ratio": {
            "median": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        },
        "memory_ratio": ours.peak_memory_bytes / peer.peak_memory_bytes,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as aligned lines."""
    apart = ("environment", "peers")
    rows = [(name, _shown(name, value)) for name, value in figures.items() if name not in apart]
    for peer, found in figures["peers"].items():
        for name, value in found.items():
            if name == "speed_ratio":
                value = "{median:.2f} ({min:.2f} to {max:.2f})".format(**value)
            rows.append((f"{peer}: {name}", _shown(name, value)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def peer_spec(
    config: ml_collections.ConfigDict, compiled: bool, device: str
) -> dict[str, Any]:
    """The settings of a config that the PyTorch peer needs.

    Raises:
        UserError: the peer lacks the config's prior, generator or inference.
    """
    for section, known in (("prior", "glow"), ("generator", "convnet"), ("inference", "langevin")):
        name = config[section].name
        if name != known:
            raise UserError(f"--peer: the PyTorch peer has only {section} {known!r}, not {name!r}")
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
    """A process that takes training steps on request.

    Attributes:
        ready: the message that the process sent when it was ready.
        seconds: seconds per step, one entry per turn.
        peak_memory_bytes: peak memory after the last turn.
    """

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._steps_a_turn = 1
        self.ready = self._answer()
        self.seconds: list[float] = []
        self.peak_memory_bytes = 0

    def calibrate(self) -> None:
        """Chooses the number of steps per turn. The very first step may be a slow one."""
        if self.ready["first_seconds"] < 10 * TURN_SECONDS:
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
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next line that the process prints; raises UserError if it ended instead."""
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"the measured process ended with status {self._process.wait()}")
        return json.loads(line)


@contextlib.contextmanager
def _worker(
    command: list[str | os.PathLike], folder: pathlib.Path | None = None
) -> Iterator[_Worker]:
    """Starts a process in a folder (None: the current one) and waits until it is ready."""
    process = subprocess.Popen(
        list(map(os.fspath, command)),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Several processes share a GPU, so none may reserve memory in advance.
        env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | {"XLA_FLAGS": cli.XLA_FLAGS},
    )
    try:
        yield _Worker(process)
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()


def _check_peer(name: str, config: ml_collections.ConfigDict) -> None:
    """Raises UserError if there is no such peer."""
    if name in (PYTORCH, PYTORCH_COMPILE):
        if not PEER.exists():
            raise UserError(f"--peer={name}: {PEER} is missing: run the benchmark from a clone")
        if not importlib.util.find_spec("torch"):
            raise UserError(f"--peer={name}: PyTorch is missing: pip install -e .[peers]")
        peer_spec(config, compiled=False, device="cpu")
    elif name != DETERMINISTIC and not (pathlib.Path(name) / "lfbm_jax" / "benchmark.py").exists():
        raise UserError(
            f"--peer={name}: neither {PYTORCH}, {PYTORCH_COMPILE} nor {DETERMINISTIC}, nor a folder"
            " with a checkout of this repository"
        )


def _peer_command(
    name: str, config: ml_collections.ConfigDict, platform: str
) -> tuple[list[str | os.PathLike], pathlib.Path | None]:
    """The command of a peer's process, and the folder to run it in."""
    if name in (PYTORCH, PYTORCH_COMPILE):
        device = "cpu" if platform == "cpu" else "cuda"
        spec = peer_spec(config, name == PYTORCH_COMPILE, device)
        return [sys.executable, PEER, json.dumps(spec)], None
    if name == DETERMINISTIC:
        return _jax_command(f"--config.deterministic={not config.deterministic}"), None
    return _jax_command(), pathlib.Path(name)


def _jax_command(*more: str) -> list[str]:
    """The command of a process that measures the config with the package in its working folder."""
    own = [f"--config={':'.join(filter(None, given.config_file()))}"]
    own += [f"--config.{key}={value}" for key, value in given.overrides().items()]
    return [sys.executable, "-m", "lfbm_jax.benchmark", *own, *more, "--worker"]


def _work(config: ml_collections.ConfigDict) -> None:
    """Serves as the measured process.

    Each input line is a number of steps to take; 0 asks for everything else that is measured.
    """
    step = measure.Step(config, build.model(config))
    _say(
        {
            "compile_seconds": step.compile_seconds,
            "first_seconds": step.run(1),
            "device": measure.device_name(),
            "platform": jax.default_backend(),
            "environment": report.environment(),
        }
    )
    for line in sys.stdin:
        steps = int(line)
        if steps:
            seconds = step.run(steps)
            _say({"seconds": seconds, "peak_memory_bytes": measure.peak_memory_bytes()})
            continue
        # After the last turn, as the ceiling's matrices may take more memory than a step does.
        ceilings = [measure.ceiling_gflops(config.precision)]
        parts = step.parts(_PARTS.value)
        ceilings.append(measure.ceiling_gflops(config.precision))
        _say(
            {
                **parts,
                "flops_per_step": step.flops(),
                "ceiling_gflops": max(ceilings),
                "estimated_memory_bytes": step.estimated_memory_bytes(),
            }
        )


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _write(content: dict[str, Any], path: pathlib.Path) -> None:
    atomic.write_text(path, json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if name == "flops_per_step":
        return f"{value / 1e12:.3f} x 10^12"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(main, given.config)
