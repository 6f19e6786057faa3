"""Formats the results of `lfbm_jax.gpu_check` as Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from lfbm_jax.reports.markdown import table

MIB = 2**20


def markdown(results: dict[str, dict[str, Any]], table_11: Sequence[str]) -> str:
    """Returns the report on the parts of the check that have run so far.

    Args:
        results: part -> its "figures", "faults" and "seconds".
        table_11: the lines of the table that compares with Table 11 of the paper.
    """
    lines = ["# Check of a device", ""]
    timed = [result["figures"] for result in results.values() if "device" in result["figures"]]
    if timed:
        known = timed[0]["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
        lines += [f"{timed[0]['device']}; commit {known['commit']}; {versions}.", ""]
    outcomes = [
        [name, "; ".join(result["faults"]) or "as it should be", f"{result['seconds']:.0f}"]
        for name, result in results.items()
    ]
    lines += [*table(["part", "outcome", "seconds"], outcomes), ""]
    figures = {name: result["figures"] for name, result in results.items()}
    if figures.get("values"):
        lines += ["## Errors against a CPU in float32, in roundings of the precision", ""]
        by_precision = figures["values"]
        names = list(next(iter(by_precision.values())))
        errors = [[p, *(f"{each[n]:.3g}" for n in names)] for p, each in by_precision.items()]
        lines += [*table(["precision", *names], errors), ""]
    if timed:
        lines += ["## A training step", ""]
        header = ["config", "batch", "s per step", "images per second", "achieved / ceiling"]
        header += ["compiling, s", "peak memory, MiB", "estimated, MiB"]
        lines += [*table(header, map(_step, timed)), ""]
        lines += ["The ratios are our speed and our memory, as multiples of the peer's.", ""]
        header = ["config", "beside", "s per step", "speed ratio", "peak memory, MiB"]
        header.append("memory ratio")
        lines += [*table(header, [row for each in timed for row in _peers(each)]), ""]
    return "\n".join([*lines, *table_11]) + "\n"


def _step(figures: dict[str, Any]) -> list[str]:
    return [
        figures["config"],
        f"{figures['batch_size']}",
        f"{figures['seconds_per_step']:.4g}",
        f"{figures['images_per_second']:.4g}",
        f"{figures['achieved_to_ceiling']:.2f}",
        f"{figures['compile_seconds']:.1f}",
        f"{figures['peak_memory_bytes'] / MIB:,.0f}",
        f"{figures['estimated_memory_bytes'] / MIB:,.0f}",
    ]


def _peers(figures: dict[str, Any]) -> Iterable[list[str]]:
    for name, peer in figures["peers"].items():
        yield [
            figures["config"],
            name,
            f"{peer['seconds_per_step']:.4g}",
            "{median:.2f} ({min:.2f} to {max:.2f})".format(**peer["speed_ratio"]),
            f"{peer['peak_memory_bytes'] / MIB:,.0f}",
            f"{peer['memory_ratio']:.2f}",
        ]

