"""Trains, evaluates or samples one run: `python -m lfbm_jax.main --config=configs/digits.py`."""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from absl import flags

from lfbm_jax.costs import accelerators, memory, target
from lfbm_jax.costs.describe import describe, parameter_table
from lfbm_jax.data import prepare
from lfbm_jax.devices import distributed, sharding
from lfbm_jax.errors import UserError
from lfbm_jax.metrics import fid
from lfbm_jax.reports import plots
from lfbm_jax.runs import build, cli, experiment, given, workdir

DEVICE_BYTES = 16e9  # memory of a device when neither --memory_gb nor --target is given
MODES = ("train", "evaluate", "sample", "describe", "prepare", "fid_stats", "costs")

_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    MODES,
    "train: train, then run the config's tasks. evaluate: run the tasks on a checkpoint."
    " sample: write samples.npy and a PNG grid. describe: print parameter counts and operations as"
    " JSON. prepare: fill the data cache. fid_stats: write the training images' statistics for FID"
    " as .npz. costs: add parameters and times of a finished run to its figures.json.",
)
_STEP = flags.DEFINE_integer("step", None, "step of the checkpoint to use [the newest]")
_NUM = flags.DEFINE_integer("num", 64, "how many images --mode=sample draws", lower_bound=1)
_MEMORY_GB = flags.DEFINE_float(
    "memory_gb",
    None,
    "memory of a device, for which --mode=describe finds a microbatch [16, or the target's]",
    lower_bound=0.0,
)
_TARGET = flags.DEFINE_string(
    "target",
    None,
    "accelerator for which --mode=describe compiles the update: one of"
    f" {', '.join(accelerators.NAMES)}, or a file with a GPU's properties as XLA writes them;"
    " append :N for N chips of one host, or for a TPU a slice such as :4x4",
)
_PROFILE = flags.DEFINE_integer(
    "profile",
    0,
    "number of host calls of training to trace for TensorBoard, starting with the second",
    lower_bound=0,
)

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    os.environ.get("JAX_COORDINATOR_ADDRESS"),
    "HOST:PORT of process 0 if several processes train together, or auto to ask SLURM, Open MPI,"
    " Kubernetes or the TPU [none, or JAX_COORDINATOR_ADDRESS]",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "number of processes of this run [ask the launcher]", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "number of this process, from 0 [ask the launcher]", lower_bound=0
)
_WAIT_SECONDS = flags.DEFINE_float(
    "wait_seconds",
    distributed.WAIT_SECONDS,
    "seconds to wait for the other processes of a run",
    lower_bound=1.0,
)
flags.adopt_module_key_flags(given)

# Flags and the modes that read them.
_READ_IN = (
    (_STEP, ("evaluate", "sample")),
    (_NUM, ("sample",)),
    (_MEMORY_GB, ("describe",)),
    (_TARGET, ("describe",)),
    (_PROFILE, ("train",)),
)


def main(config: ml_collections.ConfigDict) -> None:
    for flag, modes in _READ_IN:
        if flag.present and _MODE.value not in modes:
            raise UserError(
                f"--{flag.name}={flag.value}: --mode={_MODE.value} does not read it; leave it out,"
                f" or use --mode={' or '.join(modes)}"
            )
    if _MODE.value == "describe" and _TARGET.value:
        accelerators.look_for_none()
    distributed.initialize(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _WAIT_SECONDS.value
    )
    with distributed.noticing_losses(), distributed.own_folder(_workdir()) as folder:
        _MODE_FUNCTIONS[_MODE.value](config, folder)


def _train(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    reports = experiment.run(config, folder, _PROFILE.value)
    _print_report([*_newest_pictures(folder), *reports])


def _evaluate(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    _print_report(experiment.evaluated(config, folder, _STEP.value))


def _sample(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    _, images = experiment.restored(config, folder, _STEP.value).sample(_NUM.value, config.seed)
    np.save(folder / "samples.npy", images)
    picture = plots.save(plots.grid(images), folder / "samples.png")
    _print_paths([picture, folder / "samples.npy"])


def _describe(config: ml_collections.ConfigDict, _: pathlib.Path) -> None:
    built = build.model(config)
    named = accelerators.find(_TARGET.value) if _TARGET.value else None
    share = sharding.shard_size(config.train.batch_size, len(named.devices) if named else None)
    device_bytes = named.accelerator.memory_bytes if named else DEVICE_BYTES
    if _MEMORY_GB.value is not None:
        device_bytes = 1e9 * _MEMORY_GB.value
    print(parameter_table(built), file=sys.stderr, flush=True)  # stdout is JSON, for programs.
    found = describe(config, built)
    found["memory_bytes"] = memory.estimate(config, built, share, device_bytes)
    if named:
        found["target"] = target.describe(config, built, named)
    print(json.dumps(found, indent=2))


def _prepare(config: ml_collections.ConfigDict, _: pathlib.Path) -> None:
    cache = prepare(config.data)
    for split in filter(None, (cache.train, cache.held_out)):
        print(f"{split.name}: {split.images.shape[0]} images of shape {split.images.shape[1:]}")
    print(f"data cache: {cache.directory}")


def _fid_stats(config: ml_collections.ConfigDict, _: pathlib.Path) -> None:
    data = distributed.first_before_others(lambda: prepare(config.data))
    _print_paths([fid.training_statistics(config, data)])


def _costs(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
    print(json.dumps(experiment.add_costs(config, folder), indent=2))


_MODE_FUNCTIONS: dict[str, Callable[[ml_collections.ConfigDict, pathlib.Path], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "sample": _sample,
    "describe": _describe,
    "prepare": _prepare,
    "fid_stats": _fid_stats,
    "costs": _costs,
}


def _config() -> ml_collections.ConfigDict:
    """The config of --config, or of the work directory if only --workdir is given."""
    if given.CONFIG.value is not None:
        return given.CONFIG.value
    if given.WORKDIR.value:
        return workdir.load_config(pathlib.Path(given.WORKDIR.value))
    raise UserError(f"{given.MISSING}, or the --workdir of a run")


def _workdir() -> pathlib.Path:
    """The folder of --workdir, else runs/<config name>-<variants>."""
    if given.WORKDIR.value:
        return pathlib.Path(given.WORKDIR.value)
    path, variants = given.config_file()
    name = "-".join(filter(None, [pathlib.Path(path).stem, *variants.replace("=", "-").split(",")]))
    return pathlib.Path("runs") / name


def _newest_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    pictures = (sorted((folder / kind).glob("*.png")) for kind in ("samples", "reconstructions"))
    return [found[-1] for found in pictures if found]


def _print_report(paths: list[pathlib.Path]) -> None:
    """Prints paths, the last of which is the run's page, and the page's address for a browser."""
    _print_paths(paths)
    if distributed.is_first():
        print(f"the report in a browser: {paths[-1].resolve().as_uri()}", flush=True)


def _print_paths(paths: list[pathlib.Path]) -> None:
    if distributed.is_first():
        print("\n".join(["done; look at", *(f"  {path}" for path in paths)]), flush=True)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    cli.run(main, _config, argv)


if __name__ == "__main__":
    run()
