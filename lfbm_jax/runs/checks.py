"""The parts of the check of a device, which `lfbm_jax.gpu_check` runs.

Each part runs in its own processes, which are killed when its time is up. gpu_check.json and
gpu_check.md are written after each part. If a part fails, the others still run.
"""

import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.reports import device_check
from lfbm_jax.runs import agreement, build, recorded, tables, workdir
from lfbm_jax.runs.checkpoints import Checkpoints

NAMES = ("gpu_check.json", "gpu_check.md")
PYTORCH = ("pytorch", "pytorch-compile")
MODELS_OF_TABLE_11 = {"LFBM-MCMC": "", "LFBM-VAE": "lfbm_vae,", "LEBM": "lebm,", "ABP": "abp,"}
TEN_MINUTES = 600.0
STEPS, STOPPED_AT = 6, 3  # of the run that is resumed
RUN_TO_RESUME = {
    "data.source": "synthetic",
    "data.test_fraction": 0.25,
    "deterministic": True,
    "eval_inference.num_steps": 2,
    "tasks": (),
    "train.batch_size": 32,
    "train.checkpoint_every": STOPPED_AT,
    "train.log_every": 1,
    "train.sample_every": STOPPED_AT,  # A run also draws and logs samples at its end.
}


class Found(NamedTuple):
    """The result of a part.

    Attributes:
        figures: what was measured, as JSON can hold it.
        faults: one line per fault.
    """

    figures: dict[str, Any]
    faults: list[str]


class Check(NamedTuple):
    """The settings of a part, and how it runs its processes.

    Attributes:
        folder: where everything is written.
        tiny: whether to use narrow networks, as the tests do.
        deadline: when the part's processes are killed, on the clock of `time.monotonic`.
    """

    folder: pathlib.Path
    tiny: bool
    deadline: float

    def config(self, name: str, variants: str = "") -> str:
        """The flag that names an experiment."""
        variants += ",smoke" if self.tiny else ""
        return f"--config=configs/{name}.py:{variants.lstrip(',')}"

    def run(self, *commands: "Command") -> None:
        """Runs Python commands side by side.

        Raises:
            UserError: a command failed, or the time is up. The text names the log, and the last
                line of a failed command.
        """
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(self._started(command)) for command in commands]
            for command, process in zip(commands, processes, strict=True):
                log = self.folder / f"{command.name}.log"
                try:
                    status = process.wait(max(0.0, self.deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    raise UserError(f"{command.name}: out of time; see {log}") from None
                if status:
                    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
                    last = next((line for line in reversed(lines) if line.strip()), "")
                    raise UserError(f"{command.name}: exit status {status}: {last}; see {log}")

    @contextlib.contextmanager
    def _started(self, command: "Command") -> Iterator[subprocess.Popen]:
        with (self.folder / f"{command.name}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *(os.fspath(word) for word in command.arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | command.environment,
                start_new_session=True,  # So that its child processes can be killed with it.
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Command(NamedTuple):
    """A module to run, with its arguments.

    Attributes:
        name: the log's name, without suffix.
        arguments: the arguments of `python -m`.
        environment: environment variables to set.
    """

    name: str
    arguments: Sequence[str | os.PathLike]
    environment: dict[str, str] = {}


def values(check: Check) -> Found:
    """Compares this device with a CPU in float32; errors are in roundings of each precision."""
    figures, faults = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        command = ["lfbm_jax.gpu_check", check.config("svhn"), f"--out={scratch}"]
        check.run(
            Command("values-cpu", [*command, "--side=cpu"], {"JAX_PLATFORMS": "cpu"}),
            Command("values-device", [*command, "--side=device"]),
        )
        expected = agreement.load(pathlib.Path(scratch) / "cpu-float32.npz")
        for precision in agreement.EPSILON:
            found = agreement.load(pathlib.Path(scratch) / f"device-{precision}.npz")
            figures[precision] = agreement.errors(found, expected, precision)
    for precision, errors in figures.items():
        for name, error in errors.items():
            bound = agreement.BOUNDS[name].roundings
            if error > bound:
                faults.append(f"{precision}: {name}: {error:.3g} roundings, more than {bound}")
    return Found(figures, faults)


def compute_values(config: ml_collections.ConfigDict, name: str, folder: pathlib.Path) -> None:
    """Runs as a process of `values`: a device computes at every precision, the CPU in float32."""
    # All processes draw them on the CPU, because other devices round differently.
    with jax.default_device(jax.devices("cpu")[0]):
        parameters = agreement.parameters(config)
    for precision in agreement.EPSILON if name == "device" else ("float32",):
        config.precision = precision
        figures = agreement.figures(config, parameters)
        agreement.save(figures, folder / f"{name}-{precision}.npz")


def resume(check: Check) -> Found:
    """Compares training with and without a stop; every process compiles for itself."""
    ends = {"whole": (STEPS,), "resumed": (STOPPED_AT, STEPS)}
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        settings = RUN_TO_RESUME | {"data.cache_dir": f"{scratch}/cache"}
        overrides = [f"--config.{key}={value}" for key, value in settings.items()]
        for run, steps in ends.items():
            for end in steps:
                command = ["lfbm_jax.main", check.config("svhn"), *overrides]
                command += [f"--config.train.num_steps={end}", f"--workdir={scratch}/{run}"]
                compile_anew = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
                check.run(Command(f"resume-{run}-{end}", command, compile_anew))
            found.append(_end(pathlib.Path(scratch) / run))
    (one, metrics), (other, other_metrics) = found
    differing = [key for key in one if not np.array_equal(one[key], other[key])]
    faults = []
    if differing:
        faults.append(f"after resuming, {len(differing)} arrays differ, such as {differing[0]}")
    if metrics != other_metrics:
        faults.append("after resuming, metrics.jsonl differs")
    setting = {"steps": STEPS, "stopped_at": STOPPED_AT, "arrays": len(one)}
    return Found(setting | {"arrays_that_differ": len(differing)}, faults)


def _end(run: pathlib.Path) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    """The arrays of a run's last checkpoint, and its logged lines without times."""
    config = workdir.load_config(run)
    template = jax.eval_shape(lambda: learning.init_state(config, build.model(config)))
    checkpoints = Checkpoints(run, read_only=True)
    try:
        state = checkpoints.restore(template)
    finally:
        checkpoints.close()
    leaves = jax.tree_util.tree_leaves_with_path(state)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [
        {name: value for name, value in json.loads(line).items() if not name.startswith("time/")}
        for line in lines
    ]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, logged


def speed(name: str, check: Check) -> Found:
    """Times a config's step beside its peers, and without the peers that fail."""
    path = check.folder / f"benchmark-{name}.json"
    command = ["lfbm_jax.benchmark", check.config(name), "--parts=", f"--out={path}"]
    command.append(f"--steps={1 if check.tiny else 5}")
    pytorch = PYTORCH if importlib.util.find_spec("torch") else ()
    faults = []
    for peers in dict.fromkeys(((*pytorch, "deterministic"), pytorch[:1], ())):
        try:
            beside = [f"--peer={peer}" for peer in peers]
            check.run(Command("-".join([path.stem, *peers]), [*command, *beside]))
        except UserError as error:
            faults.append(str(error))
        else:
            return Found(json.loads(path.read_text(encoding="utf-8")), faults)
    return Found({}, faults)


def table_11(check: Check) -> Found:
    """Measures both times of each model, into work directories that `lfbm_jax.tables` reads."""
    figures, faults = {}, []
    for method, variants in MODELS_OF_TABLE_11.items():
        run = check.folder / "table11" / method
        path = check.folder / f"table11-{method}.json"
        command = ["lfbm_jax.benchmark", check.config("celeba64", f"{variants}table11")]
        command += ["--parts=synthesis", "--steps=1", f"--workdir={run}", f"--out={path}"]
        try:
            check.run(Command(path.stem, command))
        except UserError as error:
            faults.append(str(error))
            continue
        figures[method] = json.loads(path.read_text(encoding="utf-8"))
    return Found(figures, faults)


class Part(NamedTuple):
    """One part of the check.

    Attributes:
        seconds: its limit when all parts together have ten minutes.
        run: does the part.
    """

    seconds: float
    run: Callable[[Check], Found]


PARTS = {
    "values": Part(120, values),
    "resume": Part(150, resume),
    **{name: Part(150, functools.partial(speed, name)) for name in ("svhn", "celeba64", "cifar10")},
    "table11": Part(240, table_11),
}


def check_all(
    folder: pathlib.Path, parts: Sequence[str], tiny: bool, seconds: float
) -> dict[str, dict[str, Any]]:
    """Runs parts one after the other and writes the results so far after each.

    Args:
        folder: where everything is written.
        parts: names of PARTS.
        tiny: whether to use narrow networks.
        seconds: the limit for all parts together; each part may use its share.

    Returns:
        The "figures", "faults" (one line per fault) and "seconds" of each part.
    """
    end = time.monotonic() + seconds
    results: dict[str, dict[str, Any]] = {}
    for name in parts:
        print(f"{name} ...", flush=True)
        begin = time.monotonic()
        share = PARTS[name].seconds / TEN_MINUTES * seconds
        check = Check(folder, tiny, min(end, begin + share))
        try:
            figures, faults = PARTS[name].run(check)
        except Exception as error:  # The other parts still run, whatever the error.
            figures, faults = {}, [f"{error}" or type(error).__name__]
        results[name] = {
            "figures": figures, "faults": faults, "seconds": time.monotonic() - begin
        }  # fmt: skip
        for fault in faults:
            print(f"{name} failed: {fault}", flush=True)
        _write(folder, results)
    return results


def _write(folder: pathlib.Path, results: dict[str, dict[str, Any]]) -> None:
    found = folder / "table11"
    timed = tables.table_11(recorded.find_runs([found])[0]) if found.exists() else []
    as_json, as_markdown = (folder / name for name in NAMES)
    atomic.write_text(as_json, json.dumps(results, indent=2) + "\n")
    atomic.write_text(as_markdown, device_check.markdown(results, timed))
