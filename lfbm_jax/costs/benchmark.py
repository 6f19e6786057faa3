"""Times a config's training step, beside peers that take turns with it."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from lfbm_jax.costs import peers, turns
from lfbm_jax.files import terminal


def compare(
    config: ml_collections.ConfigDict,
    ours: Sequence[str],
    parts: Sequence[str],
    peer_names: Sequence[str],
    turns_per_process: int,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Measures a config; returns its figures by name, with those of its peers under "peers".

    Args:
        config: the config to measure.
        ours: the command that measures it with the package in its working directory.
        parts: which parts of the step to measure besides the whole, from `measure.PARTS`.
        peer_names: what to compare with; see `peers`.
        turns_per_process: how many turns each process takes.
        environment: the environment variables of the processes.

    Raises:
        UserError: a peer is unknown or cannot run this config, or a measured process ended early.
    """
    for name in peer_names:
        peers.check(name, config)
    with contextlib.ExitStack() as stack:
        own_command = [*ours, f"--parts={','.join(parts)}"]
        own = stack.enter_context(turns.started(own_command, environment))
        ready = own.ready
        others = {}
        for name in peer_names:
            command, folder = peers.command(name, config, ready["platform"], ours)
            others[name] = stack.enter_context(turns.started(command, environment, folder))
        workers = [own, *others.values()]
        for worker in workers:
            worker.calibrate()
        for _ in terminal.bar(range(turns_per_process), desc="measuring", unit="turn", leave=False):
            for worker in workers:
                worker.take_turn()
        # Last, because it compiles and times the parts, which belongs to no turn.
        figures = own.finish()
    seconds = statistics.median(own.seconds)
    batch, flops = config.train.batch_size, figures["flops_per_step"]
    return {
        "device": ready["device"],
        "precision": config.precision,
        "batch_size": batch,
        "seconds_per_step": seconds,
        "images_per_second": batch / seconds,
        **figures,
        "achieved_gflops": flops / seconds / 1e9,
        "achieved_to_ceiling": flops / seconds / 1e9 / figures["ceiling_gflops"],
        "compile_seconds": ready["compile_seconds"],
        "peak_memory_bytes": own.peak_memory_bytes,
        "environment": ready["environment"],
        "peers": {name: beside(own, other) for name, other in others.items()},
    }


def beside(ours: turns.Worker, peer: turns.Worker) -> dict[str, Any]:
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


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if name == "flops_per_step":
        return f"{value / 1e12:.3f} x 10^12"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
