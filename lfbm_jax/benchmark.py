"""Times a config's training step: `python -m lfbm_jax.benchmark --config=configs/svhn.py`.

Each --peer is timed in its own process. All processes take turns, so other load on the machine
affects them alike:

    --peer=pytorch, --peer=pytorch-compile   the same step in plain PyTorch, eager or compiled
    --peer=deterministic                     the same config with `deterministic` switched
    --peer=../before                         the same config in another checkout of this repository

The images are random, so no data set is needed.
"""

import json
import os
import pathlib
import sys
from typing import Any

import jax
import ml_collections
from absl import flags

from lfbm_jax.costs import benchmark, measure, peers, turns
from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.files import atomic
from lfbm_jax.layers import precision
from lfbm_jax.reports import report
from lfbm_jax.runs import build, cli, comparable, experiment, given, workdir

_PEERS = flags.DEFINE_multi_string(
    "peer",
    [],
    f"what to compare with: {peers.PYTORCH}, {peers.PYTORCH_COMPILE}, {peers.DETERMINISTIC}, or the"
    " folder of another checkout; may be given several times",
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
            step = measure.Step(config, build.model(config))
            turns.serve(step, config.precision, _PARTS.value, report.environment())
        return
    if given.WORKDIR.value:
        _claim(pathlib.Path(given.WORKDIR.value), config)
    figures = _setting(config) | benchmark.compare(
        config,
        ours=_own_command(),
        parts=_PARTS.value,
        peer_names=_PEERS.value,
        turns_per_process=_STEPS.value,
        environment=os.environ | {"XLA_FLAGS": cli.XLA_FLAGS},
    )
    print(benchmark.table(figures))
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


def _claim(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder a work directory, or checks that it is one of this config."""
    if (folder / "config.json").exists():
        workdir.check(folder, config)
    else:
        experiment.claim(config, folder)


def _setting(config: ml_collections.ConfigDict) -> dict[str, str]:
    """What was measured: the config's name, its data and its method."""
    return {
        "config": ":".join(filter(None, given.config_file())),
        "data": comparable.data_set(config),
        "method": comparable.method(config),
    }


def _own_command() -> list[str]:
    """The command that measures the config with the package in its working directory."""
    own = [f"--config={':'.join(filter(None, given.config_file()))}"]
    own += [f"--config.{key}={value}" for key, value in given.overrides().items()]
    return [sys.executable, "-m", "lfbm_jax.benchmark", *own, "--worker"]


def _write(content: dict[str, Any], path: pathlib.Path) -> None:
    atomic.write_text(path, json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    cli.run(main, given.config)
