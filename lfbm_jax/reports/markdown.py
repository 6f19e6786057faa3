"""Formats Markdown tables."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table: the header, a rule, and one line per row of cells."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]
