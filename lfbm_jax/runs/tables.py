"""Writes the paper's Tables 2 to 6, 11 and 13 from runs, with the paper's numbers beside ours.

Runs that differ only in the seed share an entry: mean, standard deviation and count (see `alike`).
Other runs get their own rows, whose labels say how they differ: from the paper's settings if the
paper uses the data, else from each other. Every data set has its own table. The paper's numbers
appear only for the paper's data sets, and in a row of ours only if `comparable` allows it.
"""

import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lfbm_jax.reports import markdown, paper
from lfbm_jax.runs import recorded, rows
from lfbm_jax.runs.recorded import Run
from lfbm_jax.runs.rows import NOT_RUN, Row

TABLE_4_LEAD = (
    "Mean, standard deviation and, for ours, number of runs (the paper: 10; its spreads of MEG and"
    " LEBM are over the last ten epochs of a run)."
)


def write(folders: Iterable[pathlib.Path], path: pathlib.Path) -> pathlib.Path:
    """Writes the tables of all runs in `folders` as Markdown; returns the path.

    Raises:
        UserError: a folder holds no run, or is itself a run that cannot be read.
    """
    runs, left_out = recorded.find_runs(folders)
    tables = [table(runs) for table in TABLES]
    tables.append(_list(runs, left_out))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(itertools.chain(*tables)), encoding="utf-8")
    return path


def table_2(runs: list[Run]) -> list[str]:
    """Reconstruction and generation: one table per data set, the paper's data sets first."""
    lines = ["## Table 2: reconstruction (MSE) and generation (FID)", ""]
    lines += ["MSE is the mean over images and pixels in [-1, 1], of held-out images, or of"]
    lines += ["training images if the data has no others.", ""]
    figures = {"mse": "reconstruct", "fid": "generate"}
    for data, found in _by_data(_complete(runs), paper.TABLE_2, tuple(figures.values())):
        cells = [
            [row.label]
            + [
                text
                for name, task in figures.items()
                for text in (_number(row.papers(task, name)), row.ours(task, name))
            ]
            for row in found
        ]
        if data in paper.TABLE_2:
            # A method that was not run at the paper's settings has a row with its figures alone.
            for method in paper.TABLE_2_METHODS:
                if method not in (row.label for row in found):
                    known = [_number(paper.table_2(data, method, name)) for name in figures]
                    cells.append([method, known[0], NOT_RUN, known[1], NOT_RUN])
            cells.sort(key=lambda row: _place(row[0]))
        header = ["method", "MSE, paper", "MSE, ours", "FID, paper", "FID, ours"]
        lines += [f"### {data}", "", *markdown.table(header, cells), ""]
    return lines


def table_3(runs: list[Run]) -> list[str]:
    """Inpainting of a centred hole."""
    lines = ["## Table 3: inpainting", ""]
    lines += ["The paper's numbers are as printed; its columns may be swapped.", ""]
    for data, found in _by_data(_complete(runs), ("CelebA",), ("inpaint",)):
        cells = []
        if data == "CelebA":
            for method, printed in paper.TABLE_3.items():
                cells.append([f"{method}, paper", *(f"{printed[n]:g}" for n in ("fid", "mse"))])
        for row in found:
            figures = [row.ours("inpaint", name) for name in ("fid", "mse_hidden")]
            cells.append([f"{row.label}, ours", *figures])
        if not found:
            cells.append(["ours", NOT_RUN, NOT_RUN])
        header = ["method", "FID", "MSE in the hole"]
        lines += [f"### {data}", "", *markdown.table(header, cells), ""]
    return lines


def table_4(runs: list[Run]) -> list[str]:
    """Anomaly detection: AUPRC by held-out class, one table per kind of split."""
    lines = ["## Table 4: anomaly detection, AUPRC by held-out class", "", TABLE_4_LEAD, ""]
    for split, header, cells, doubt in splits_of_table_4(runs):
        lines += [f"### {split}", "", *markdown.table(header, cells), ""]
        if doubt:
            lines += [doubt, ""]
    return lines


def splits_of_table_4(runs: list[Run]) -> Iterator[tuple[str, list[str], list[list[str]], str]]:
    """Yields the parts of Table 4: data and split, the header, the cells, and a remark if any."""
    runs = [run for run in runs if run.config["data"]["exclude_labels"]]
    papers = f"MNIST, {_split(paper.POOLED_TRAIN_SHARE)}"

    def section(run: Run) -> str:
        return f"{run.data}, {_split(run.config['data'].get('pooled_train_share', 0.0))}"

    found_by_data = _by_data(
        runs,
        (papers,),
        ("anomaly",),
        section=section,
        column=lambda run: tuple(run.config["data"]["exclude_labels"]),
        told_by_column=("data.exclude_labels", "anomaly num_images"),
        told_elsewhere=("data.pooled_train_share", "anomaly split"),
    )
    for data, found in found_by_data:
        digits = [(digit,) for digit in paper.TABLE_4_DIGITS] if data == papers else []
        others = sorted({labels for row in found for labels in row.cells})
        held_out = list(dict.fromkeys([*digits, *others]))
        cells = []
        if data == papers:
            for method, (means, spreads) in paper.TABLE_4.items():
                spread = [f" ± {value:.3f}" for value in spreads or ()] or [""] * len(means)
                known = [f"{mean:.3f}{part}" for mean, part in zip(means, spread, strict=True)]
                doubt = " (see below)" * (method in paper.OF_ANOTHER_BASE_RATE)
                missing = ["-"] * (len(held_out) - len(known))
                cells.append([f"{method}, paper{doubt}", *known, *missing])
        for row in found:
            for kind, name in (
                ("ours", "auprc"), ("images scored", "num_images"), ("base rate", "base_rate")
            ):  # fmt: skip
                figures = [row.ours("anomaly", name, labels) for labels in held_out]
                cells.append([f"{row.label}, {kind}", *figures])
        if not found:
            cells.append(["ours", *[NOT_RUN] * len(held_out)])
        header = ["held-out class", *(", ".join(map(str, labels)) for labels in held_out)]
        yield data, header, cells, paper.TABLE_4_DOUBT if data == papers else ""


def tables_5_and_6(runs: list[Run]) -> list[str]:
    """Unsupervised recovery: MSE of the hidden pixels, FID of samples."""
    lines = []
    runs = [run for run in runs if run.config["data"]["mask"]]
    for number, name, task, figure in (
        (5, "mse", "recover", "mse_hidden"),
        (6, "fid", "generate", "fid"),
    ):
        lines += [f"## Table {number}: unsupervised recovery, {name.upper()}", ""]
        lines += [f"Squares scaled to images of {paper.SIDE} x {paper.SIDE} pixels.", ""]
        found_by_data = _by_data(
            runs, ("CelebA",), (task,), column=_occlusion, told_by_column=("data.mask",)
        )
        for data, found in found_by_data:
            others = sorted({kind for row in found for kind in row.cells} - {*paper.OCCLUSIONS})
            columns = [*paper.OCCLUSIONS, *others]
            cells = []
            if data == "CelebA":
                for method, printed in paper.TABLES_5_AND_6[name].items():
                    missing = ["-"] * len(others)
                    known = (f"{value:g}" for value in printed)
                    cells.append([f"{method}, paper", *known, *missing])
            for row in found:
                cells.append(
                    [f"{row.label}, ours", *(row.ours(task, figure, kind) for kind in columns)]
                )
            if not found:
                cells.append(["ours", *[NOT_RUN] * len(columns)])
            lines += [f"### {data}", "", *markdown.table(["method", *columns], cells), ""]
    return lines


def table_11(runs: list[Run]) -> list[str]:
    """Times to train and to synthesise, which are comparable only on the same device."""
    lines = ["## Table 11: time to train and to synthesise", ""]
    lines += ["The device is the one named in the run's first report.", ""]
    runs = [recorded.with_times(run) for run in runs if not run.config["data"]["mask"]]
    hidden = ("time timed_on", "train.batch_size", "task.generate.batch_size")
    header = ["method", "device", "batch", "minutes per epoch", "images synthesised at a time",
              "milliseconds to synthesise them"]  # fmt: skip
    for data, found in _by_data(runs, ("CelebA",), ("time",), told_elsewhere=hidden):
        cells = []
        if data == "CelebA":
            batch = str(paper.TABLE_11_BATCH)
            for method, (minutes, milliseconds) in paper.TABLE_11.items():
                place = [paper.TABLE_11_DEVICE, batch, f"{minutes:g}", batch, f"{milliseconds:g}"]
                cells.append([f"{method}, paper", *place])
        for row in found:
            setup = row.cells[None][0].reports["time"]["setup"]
            times = [row.ours("time", name) for name in ("minutes", "milliseconds")]
            device, batch, synthesised = setup["timed_on"]
            place = [device, str(batch), times[0], str(synthesised), times[1]]
            cells.append([f"{row.label}, ours", *place])
        if not found:
            cells.append(["ours", "-", "-", NOT_RUN, "-", NOT_RUN])
        lines += [f"### {data}", "", *markdown.table(header, cells), ""]
    return lines


def table_13(runs: list[Run]) -> list[str]:
    """Parameters of the networks, and FID, on CelebAMask-HQ."""
    data = "CelebAMask-HQ"
    lines = [f"## Table 13: sizes and FID, {data}, 256 x 256", ""]
    runs = [run for run in _complete(runs) if run.data == data]
    found = rows.group(runs, ("generate",))
    cells = []
    for method, (*sizes, fid) in paper.TABLE_13.items():
        known = ["-" if size is None else f"{size:,}" for size in sizes]
        cells.append([f"{method}, paper", *known, f"{fid:g}"])
    for row in found:
        ours = recorded.sizes(row.cells[None][0])
        cells.append([f"{row.label}, ours", *ours, row.ours("generate", "fid")])
    if not found:
        cells.append(["ours", *[NOT_RUN] * 4])
    header = ["method", "prior", "inference network", "generator", "FID"]
    return [*lines, *markdown.table(header, cells), ""]


TABLES: tuple[Callable[[list[Run]], list[str]], ...] = (
    table_2, table_3, table_4, tables_5_and_6, table_11, table_13
)  # fmt: skip


def _list(runs: list[Run], left_out: list[str]) -> list[str]:
    """Lists every run, so that entries can be traced, and the runs that could not be read."""
    cells = []
    for run in runs:
        report = next(iter(run.reports.values()), {})
        setup = report.get("setup", {})
        data = run.config["data"]
        kind = data["mask"] or ", ".join(f"without {x}" for x in data["exclude_labels"]) or "-"
        cells.append(
            [str(run.folder), run.data, kind, run.method, str(run.config["seed"])]
            + [str(report.get("step", "-")), setup.get("device", "-"), setup.get("commit", "-")]
        )
    header = ["run", "data", "occlusion or class", "method", "seed", "step", "device", "commit"]
    lines = ["## Runs", "", *markdown.table(header, cells), ""]
    if left_out:
        lines += ["Left out:", "", *(f"- {line}" for line in left_out), ""]
    return lines


def _complete(runs: list[Run]) -> list[Run]:
    """The runs that learned from whole images of all classes. Others have their own tables."""
    data = [(run, run.config["data"]) for run in runs]
    return [run for run, own in data if not own["mask"] and not own["exclude_labels"]]


def _by_data(
    runs: list[Run],
    papers: Iterable[str],
    tasks: tuple[str, ...],
    section: Callable[[Run], str] = lambda run: run.data,
    **grouping: Any,
) -> Iterator[tuple[str, list[Row]]]:
    """Yields (data set, its rows): the paper's data sets, even without runs, then the others."""
    with_reports = [run for run in runs if any(task in run.reports for task in tasks)]
    for data in dict.fromkeys([*papers, *(section(run) for run in with_reports)]):
        of_data = [run for run in with_reports if section(run) == data]
        yield data, rows.group(of_data, tasks, **grouping)


def _split(share: float) -> str:
    """Says which images are scored in anomaly detection."""
    if not share:
        return "the test split"
    return f"{100 * share:g} % of the normal images train, the others and all anomalies are scored"


def _occlusion(run: Run) -> str:
    """The paper's name for the occlusion that a run learned from, or the mask if it has none."""
    data = run.config["data"]
    return paper.occlusion(data["mask"], data["image_size"]) or data["mask"]


def _place(label: str) -> tuple[int, bool]:
    """The sort key of a row of Table 2: the paper's order, each method before its variations."""
    methods = paper.TABLE_2_METHODS
    method = label if label in methods else label.split(", ")[0]
    return methods.index(method) if method in methods else len(methods), label != method


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
