"""Checks and times this version on an accelerator: `launch/gpu_check --out=runs/gpu_check`.

| part | |
|---|---|
| `values` | log-densities, chains and an update compared with a CPU's, at every precision |
| `resume` | with `deterministic`, a resumed run equals an uninterrupted one bit for bit |
| `svhn`, `celeba64`, `cifar10` | time and memory of a step, beside PyTorch's and `deterministic` |
| `table11` | minutes per epoch and milliseconds per batch of the paper's four models |

Each part runs in its own processes, which are killed when its time is up. gpu_check.json and
gpu_check.md are written after each part. If a part fails, the others still run, and the exit status
is 1.
"""

import pathlib
import signal
import sys

import jax
from absl import flags

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.runs import checks, cli, given
from lfbm_jax.runs.checks import NAMES, PARTS, TEN_MINUTES


def main() -> None:
    folder = pathlib.Path(_OUT.value)
    if _SIDE.value:
        _also_on_the_cpu()
        checks.compute_values(given.config(), _SIDE.value, folder)
        return
    for part in _PARTS.value:
        if part not in PARTS:
            raise UserError(f"--parts={part}: {did_you_mean(part, list(PARTS))}")
    jax.config.update("jax_platforms", "cpu")  # Leaves the device to the parts' processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder.mkdir(parents=True, exist_ok=True)
    results = checks.check_all(folder, _PARTS.value, _TINY.value, 60 * _MINUTES.value)
    print("\n".join(["done; look at", *(f"  {folder / name}" for name in NAMES)]), flush=True)
    if any(result["faults"] for result in results.values()):
        sys.exit(1)


def _also_on_the_cpu() -> None:
    """Adds the CPU to the platforms that JAX_PLATFORMS names, if it names any."""
    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]  # made at run time
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")


# allow_override: another command has flags of these names, and a process may import both.
_OUT = flags.DEFINE_string(
    "out", "runs/gpu_check", "folder for all results and logs", allow_override=True
)
_PARTS = flags.DEFINE_list(
    "parts", list(PARTS), "parts to run, in this order", allow_override=True
)
_MINUTES = flags.DEFINE_float(
    "minutes", TEN_MINUTES / 60, "limit for all parts together", lower_bound=0.0
)
_TINY = flags.DEFINE_bool("tiny", False, "narrow networks, to test this check on any machine")
_SIDE = flags.DEFINE_enum("side", "", ("", "cpu", "device"), "(internal: run as a process)")
flags.adopt_module_key_flags(given)


if __name__ == "__main__":
    cli.run(main)
