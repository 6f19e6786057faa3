"""Shows many runs on one page: their table and picture, and a link to the page of each run."""

import os
import pathlib
from collections.abc import Iterable, Mapping

from lfbm_jax.files import atomic
from lfbm_jax.reports import page


def write(
    root: pathlib.Path,
    title: str,
    lead: str,
    body: Iterable[str],
    runs: Mapping[str, pathlib.Path],
) -> pathlib.Path:
    """Writes `index.html` into the folder of the runs; returns its path.

    Args:
        root: the folder.
        title: the heading.
        lead: a sentence below the heading.
        body: elements made by `lfbm_jax.reports.page`.
        runs: name -> work directory. Links to their pages are relative, so the folder can move.
    """
    targets = [
        (name, pathlib.Path(os.path.relpath(folder, root), "reports", "index.html").as_posix())
        for name, folder in runs.items()
    ]
    elements = [page.paragraph(lead), *body, page.heading("Runs"), page.links(targets)]
    path = root / "index.html"
    atomic.write_text(path, page.document(title, elements))
    return path
