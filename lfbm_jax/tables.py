"""Gathers runs into the paper's Tables 2 to 6, the paper's numbers beside ours.

    python -m lfbm_jax.tables runs --out=tables.md

takes work directories, or folders that hold some at any depth. Runs that differ in their seed
alone are one entry: mean, standard deviation and count.
"""

import itertools
import json
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from absl import flags

from lfbm_jax.errors import UserError
from lfbm_jax.reports import paper
from lfbm_jax.runs import cli
from lfbm_jax.runs.workdir import read_config

NOT_RUN = "not run"

# data.name -> the paper's name for the data set.
DATA_SETS = {"svhn_cropped": "SVHN", "cifar10": "CIFAR-10", "celeb_a": "CelebA", "mnist": "MNIST"}


class Run(NamedTuple):
    """A work directory: its config and the reports in it by task."""

    folder: pathlib.Path
    config: dict[str, Any]
    reports: dict[str, dict[str, Any]]

    @property
    def method(self) -> str:
        return paper.method(self.config)

    @property
    def data(self) -> str:
        name = self.config["data"]["name"]
        return DATA_SETS.get(name, name)

    def figure(self, task: str, name: str) -> float | None:
        return self.reports.get(task, {}).get("figures", {}).get(name)


def main(arguments: Sequence[str]) -> None:
    folders = [pathlib.Path(argument) for argument in arguments[1:]]
    if not folders:
        raise UserError("no runs given: name work directories, or folders that hold some")
    path = write(folders, pathlib.Path(flags.FLAGS.out))
    print(f"{path.read_text(encoding='utf-8')}\ndone; look at\n  {path}", flush=True)


def write(folders: Iterable[pathlib.Path], path: pathlib.Path) -> pathlib.Path:
    """Writes the tables of all runs in `folders` as Markdown; returns the path.

    Raises:
        UserError: there is no run in one of the folders, or a run's file is damaged.
    """
    runs = [run for folder in folders for run in find_runs(folder)]
    tables = table_2(runs), table_3(runs), table_4(runs), tables_5_and_6(runs), _list(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(itertools.chain(*tables)), encoding="utf-8")
    return path


def table_2(runs: list[Run]) -> list[str]:
    """Reconstruction and generation: a table a data set, those of the paper first."""
    lines = ["## Table 2: reconstruction (MSE) and generation (FID)", ""]
    lines += ["MSE is the mean over images and pixels of the test split, in [-1, 1].", ""]
    # Runs that learned from incomplete data or without a class belong to other tables.
    runs = [run for run in runs if not run.config["data"].get("mask")]
    runs = [run for run in runs if not run.config["data"]["exclude_labels"]]
    for data in _unique([*paper.TABLE_2, *(run.data for run in runs)]):
        of_data = [run for run in runs if run.data == data]
        printed = paper.TABLE_2.get(data, {})
        rows = []
        methods = paper.TABLE_2_METHODS if printed else ()
        for method in _unique([*methods, *(run.method for run in of_data)]):
            cells = [method]
            for task, name in (("reconstruct", "mse"), ("generate", "fid")):
                known = method in methods and printed[name][methods.index(method)]
                ours = [run.figure(task, name) for run in of_data if run.method == method]
                cells += [f"{known:g}" if known else "-", _cell(ours)]
            rows.append(cells)
        header = ["method", "MSE, paper", "MSE, ours", "FID, paper", "FID, ours"]
        lines += [f"### {data}", "", *_markdown(header, rows), ""]
    return lines


def table_3(runs: list[Run]) -> list[str]:
    """Inpainting of a centred hole."""
    lines = ["## Table 3: inpainting", ""]
    lines += ["The paper's (CelebA, 64 x 64) stand as printed; its columns may be swapped.", ""]
    rows = [
        [f"{method}, paper", "CelebA", f"{printed['fid']:g}", f"{printed['mse']:g}"]
        for method, printed in paper.TABLE_3.items()
    ]
    runs = [run for run in runs if "inpaint" in run.reports]
    for method, data in _unique((run.method, run.data) for run in runs):
        ours = [run for run in runs if (run.method, run.data) == (method, data)]
        figures = ([run.figure("inpaint", name) for run in ours] for name in ("fid", "mse_hidden"))
        rows.append([f"{method}, ours", data, *map(_cell, figures)])
    if not runs:
        rows.append(["ours", "-", NOT_RUN, NOT_RUN])
    return [*lines, *_markdown(["method", "data", "FID", "MSE in the hole"], rows), ""]


def table_4(runs: list[Run]) -> list[str]:
    """Anomaly detection: AUPRC by held-out class."""
    lines = ["## Table 4: anomaly detection on MNIST, AUPRC by held-out digit", ""]
    lines += ["Mean, standard deviation and, for ours, number of runs (the paper: 10).", ""]
    rows = []
    for method, (means, spreads) in paper.TABLE_4.items():
        spread = [f" ± {value:.3f}" for value in spreads] if spreads else [""] * len(means)
        cells = [f"{mean:.3f}{part}" for mean, part in zip(means, spread, strict=True)]
        rows.append([f"{method}, paper", *cells])
    runs = [run for run in runs if "anomaly" in run.reports and run.data == "MNIST"]
    others = {tuple(run.config["data"]["exclude_labels"]) for run in runs}
    held_out = _unique([*((d,) for d in paper.TABLE_4_DIGITS), *sorted(others)])
    rows = [row + ["-"] * (len(held_out) + 1 - len(row)) for row in rows]
    kinds = [
        ("ours", "auprc"),
        ("images scored", "num_images"),
        ("base rate", "base_rate"),
        ("ours at the base rate of the 80/20 protocol", "auprc_80_20"),
        ("that base rate", "base_rate_80_20"),
    ]
    for method in _unique(run.method for run in runs) or ["LFBM-MCMC"]:
        for kind, name in kinds:
            cells = [
                _cell(
                    [
                        run.figure("anomaly", name)
                        for run in runs
                        if run.method == method
                        and tuple(run.config["data"]["exclude_labels"]) == labels
                    ]
                )
                for labels in held_out
            ]
            rows.append([f"{method}, {kind}", *cells])
    header = ["held-out digit", *(", ".join(map(str, labels)) for labels in held_out)]
    return [*lines, *_markdown(header, rows), ""]


def tables_5_and_6(runs: list[Run]) -> list[str]:
    """Unsupervised recovery: MSE of the hidden pixels, FID of samples."""
    lines = []
    runs = [run for run in runs if "recover" in run.reports]
    for number, name, task, figure in (
        (5, "mse", "recover", "mse_hidden"),
        (6, "fid", "generate", "fid"),
    ):
        lines += [f"## Table {number}: unsupervised recovery, {name.upper()}", ""]
        lines += [f"Squares scaled to images of {paper.SIDE} x {paper.SIDE} pixels.", ""]
        rows = []
        for prior, printed in paper.TABLES_5_AND_6[name].items():
            rows.append([f"{prior}, paper, CelebA", *(f"{value:g}" for value in printed)])
            ours = [run for run in runs if run.config["prior"]["name"] == prior]
            for data in _unique(run.data for run in ours) or ["-"]:
                of_data = [run for run in ours if run.data == data]
                cells = [
                    _cell([run.figure(task, figure) for run in of_data if _occlusion(run) == kind])
                    for kind in paper.OCCLUSIONS
                ]
                rows.append([f"{prior}, ours, {data}", *cells])
        lines += [*_markdown(["prior, data", *paper.OCCLUSIONS], rows), ""]
    return lines


def _list(runs: list[Run]) -> list[str]:
    """What every run was, so that an entry can be traced."""
    rows = []
    for run in runs:
        report = next(iter(run.reports.values()), {})
        setup = report.get("setup", {})
        data = run.config["data"]
        kind = data.get("mask") or ", ".join(f"without {x}" for x in data["exclude_labels"]) or "-"
        rows.append(
            [str(run.folder), run.data, kind, run.method, str(run.config["seed"])]
            + [str(report.get("step", "-")), setup.get("device", "-"), setup.get("commit", "-")]
        )
    header = ["run", "data", "occlusion or class", "method", "seed", "step", "device", "commit"]
    return ["## Runs", "", *_markdown(header, rows), ""]


def find_runs(folder: pathlib.Path) -> list[Run]:
    """The run that a folder is, or those below it."""
    if not (folder / "config.json").exists():
        found = [path.parent for path in sorted(folder.glob("**/config.json"))]
        if not found:
            raise UserError(f"{folder}: no run there (no config.json in it or below)")
        return [run for path in found for run in find_runs(path)]
    reports = {}
    for path in sorted((folder / "reports").glob("*.json")):
        try:
            reports[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): run --mode=evaluate again") from error
    return [Run(folder, read_config(folder), reports)]


def _occlusion(run: Run) -> str | None:
    """Which of the paper's occlusions a run learned from, None for another."""
    data = run.config["data"]
    return paper.occlusion(data["mask"], data["image_size"])


def _cell(values: Sequence[float | None]) -> str:
    """The mean, and for several runs standard deviation and count."""
    values = [value for value in values if value is not None]
    if not values:
        return NOT_RUN
    if len(values) == 1:
        return f"{values[0]:.4g} (1)"
    return f"{statistics.mean(values):.4g} ± {statistics.stdev(values):.2g} ({len(values)})"


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _unique(items: Iterable[Any]) -> list[Any]:
    """Without repetition, in order."""
    return list(dict.fromkeys(items))


if __name__ == "__main__":
    # Not at the top: other commands use the tables.
    flags.DEFINE_string("out", "tables.md", "the file to write")
    cli.run(main, None, arguments=None)
