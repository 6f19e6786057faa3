"""Shows one run, in training or finished: `reports/index.html`, and `reports/index.md` for text.

The page has the curves of training, then pictures, then the figures in words, each beside the
paper's where that may be; settings are folded away. It holds its pictures itself, so that it can be
sent as one file.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lfbm_jax.files import atomic
from lfbm_jax.learning import health
from lfbm_jax.reports import curves, markdown, meanings, numbers, page
from lfbm_jax.reports.curves import Series

# Folders of pictures that training writes, and what they show.
PICTURES = {
    "samples": "samples of the model",
    "reconstructions": "images, each above its reconstruction",
    "recoveries": "training images: whole, occluded, recovered",
}
# Pictures of reports that come first.
FIRST = ("samples.png", "reconstructions.png")

Report = Mapping[str, Any]


class Row(NamedTuple):
    """A figure as text.

    Attributes:
        name: its name in the report.
        words: what it says.
        ours, paper: the values; "" for no value of the paper.
    """

    name: str
    words: str
    ours: str
    paper: str


def write(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Writes both files from what the run has written so far; returns their paths."""
    folder = workdir / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    reports, left_out = _reports(folder)
    warnings = [f"Warning at step {w['step']:,}: {w['message']}" for w in health.read(workdir)]
    warnings += [f"{name} is not a report of this package, so it is left out." for name in left_out]
    title = _title(workdir.resolve())
    texts = {
        "index.md": _markdown(f"Reports of {title}", reports, warnings),
        "index.html": _page(title, reports, warnings, workdir),
    }
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in texts]


def _reports(folder: pathlib.Path) -> tuple[list[Report], list[str]]:
    """The reports in the order of the page, and the names of files that are none."""
    reports, left_out = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            report = None
        if isinstance(report, dict) and {"task", "step", "figures", "setup"} <= report.keys():
            reports.append(report)
        else:
            left_out.append(path.name)
    return sorted(reports, key=lambda report: meanings.place(report["task"])), left_out


def _title(workdir: pathlib.Path) -> str:
    """The folder's name, after its parent's if it only tells the seed: "digit-9/seed-0"."""
    names = (workdir.parent.name, workdir.name)
    return "/".join(names) if workdir.name.startswith("seed-") else workdir.name


def _page(title: str, reports: list[Report], warnings: list[str], workdir: pathlib.Path) -> str:
    metrics = curves.read(workdir)
    body = [page.paragraph(_progress(metrics, reports))]
    body += [page.paragraph(warning, "warning") for warning in warnings]
    glance = list(_glance(reports))
    if glance:
        body.append(page.table(["at a glance", "ours", "yardstick"], glance))
    if metrics:
        if not warnings:
            body.append(page.paragraph("Training gave no warning."))
        body += [page.heading("Training"), page.tiles(_curves(metrics))]
    pictures = [page.picture(*each) for each in _pictures(reports, workdir)]
    if pictures:
        body += [page.heading("Pictures"), page.tiles(pictures)]
    for report in reports:
        body += _section(report)
    config = workdir / "config.json"
    if config.exists():
        text = page.code(config.read_text(encoding="utf-8"))
        body += [page.heading("Config"), page.folded("all settings of the run", text)]
    return page.document(title, body)


def _progress(metrics: Mapping[str, Series], reports: list[Report]) -> str:
    steps = [*(metrics["step"].steps[-1:] if metrics else []), *(r["step"] for r in reports)]
    return f"After {max(steps):,} iterations." if steps else "Not trained yet."


def _glance(reports: list[Report]) -> Iterator[list[str]]:
    """Yields rows of the figures that have a yardstick, beside it."""
    for report in reports:
        for (task, name), (yardstick, of) in meanings.YARDSTICKS.items():
            figures = report["figures"]
            if task == report["task"] and {name, yardstick} <= figures.keys():
                ours, other = (numbers.shown(figures[each]) for each in (name, yardstick))
                yield [meanings.cell(name), ours, f"{other}\n{of}"]


def _curves(metrics: Mapping[str, Series]) -> Iterator[str]:
    for chart in curves.charts(metrics):
        ends = [
            f"{label} {numbers.shown(values[0])} → {numbers.shown(values[-1])}"
            for label, values in ((label, metrics[n].values) for n, label in chart.lines.items())
        ]
        yield page.figure(chart.title, curves.draw(chart, metrics), "; ".join(ends))


def _pictures(
    reports: list[Report], workdir: pathlib.Path
) -> Iterator[tuple[pathlib.Path, str]]:
    """Yields pictures with captions: training's, if newer than the reports, then the reports'."""
    evaluated = max((report["step"] for report in reports), default=-1)
    for kind, caption in PICTURES.items():
        newest = max((workdir / kind).glob(f"{'[0-9]' * 8}.png"), default=None)
        if newest is not None and int(newest.stem) > evaluated:
            yield newest, f"{caption}, step {int(newest.stem):,}"
    found = [
        (workdir / "reports" / name, _caption(name, report))
        for report in reports
        for name in report["setup"].get("pictures", ())
        if (workdir / "reports" / name).exists()
    ]
    yield from sorted(found, key=lambda each: not each[0].name.endswith(FIRST))


def _caption(picture: str, report: Report) -> str:
    """What a picture shows, from its report and the name of its file."""
    heading = meanings.heading(report["task"])
    own = pathlib.Path(picture).stem.removeprefix(f"{report['task']}_").replace("_", " ")
    more = "" if own in heading.lower() else f": {own}"
    return f"{heading}{more}, step {report['step']:,}"


def _section(report: Report) -> list[str]:
    found = _rows(report)
    columns = 3 if any(row.paper for row in found) else 2
    cells = [[meanings.cell(row.name), row.ours, row.paper][:columns] for row in found]
    setting = [[key, _text(value)] for key, value in _setting(report).items()]
    step = f", step {report['step']:,}" if report["step"] else ""
    return [
        page.heading(meanings.heading(report["task"]) + step),
        page.table(["figure", "ours", "paper"][:columns], cells),
        page.folded("setting", page.table([], setting, numbers=False)),
    ]


def table(report: Report, ours: str = "ours") -> list[str]:
    """The figures of a report as a Markdown table; `ours` is the name of the column of values."""
    found = _rows(report)
    columns = 4 if any(row.paper for row in found) else 3
    cells = [[row.name, row.words, row.ours, row.paper][:columns] for row in found]
    return markdown.table(["figure", "meaning", ours, "paper"][:columns], cells)


def sentence(report: Report) -> str:
    """The setting of a report in one line of Markdown."""
    return "Setting: " + ", ".join(f"{key} {value}" for key, value in _setting(report).items())


def _setting(report: Report) -> dict[str, Any]:
    return {key: value for key, value in report["setup"].items() if key != "pictures"}


def _rows(report: Report) -> list[Row]:
    """The figures of a report; those that only the paper has come last."""
    figures, paper = report["figures"], report.get("paper") or {}
    found = [
        Row(name, meanings.of(name).words, numbers.shown(value), str(paper.get(name, "")))
        for name, value in figures.items()
    ]
    # A longer name, such as fid_of_300_images, is the same figure, measured otherwise.
    missing = (
        name
        for name in paper
        if name not in figures and not any(own.startswith(f"{name}_") for own in figures)
    )
    return found + [
        Row(name, meanings.of(name).words, "not measured", str(paper[name])) for name in missing
    ]


def _markdown(title: str, reports: list[Report], warnings: list[str]) -> str:
    lines = [f"# {title}", "", *(f"{warning}\n" for warning in warnings)]
    for report in reports:
        lines += [f"## {report['task']}, step {report['step']}", ""]
        lines += [*table(report), ""]
        lines += [f"![{name}]({name})" for name in report["setup"].get("pictures", ())] + [""]
        lines += [sentence(report), ""]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
