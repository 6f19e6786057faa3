"""Shows the reports of a run on one self-contained web page, which can be sent as it is."""

import base64
import html
import json
import pathlib
from collections.abc import Mapping
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #d5d8dc; --soft: #f4f5f7; --faint: #5f6b7a; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4048; --soft: #1e2227; --faint: #a0a8b2; }
  body { background: #14171a; color: #e6e8ea; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { border-top: 1px solid var(--line); font-size: 1.25rem; margin: 2.5rem 0 .75rem;
     padding-top: 1.25rem; }
p.lead, figcaption, summary { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1.2rem .3rem 0; text-align: left;
         vertical-align: top; }
td.number, th.number { text-align: right; }
figure { margin: 1.25rem 0; }
img { background: #fff; border: 1px solid var(--line); display: block; height: auto;
      max-width: 100%; }
pre { background: var(--soft); overflow-x: auto; padding: 1rem; }
summary { cursor: pointer; margin: .75rem 0; }
"""


def render(title: str, reports: list[Mapping[str, Any]], folder: pathlib.Path, config: str) -> str:
    """Returns the page as HTML.

    Args:
        title: the heading of the page.
        reports: the content of the reports, in the order in which they are shown.
        folder: the folder of their pictures.
        config: the text of the run's config.json; "" if there is none.
    """
    steps = sorted({report["step"] for report in reports})
    lead = f"Trained for {', '.join(f'{step:,}' for step in steps)} iterations." if steps else ""
    sections = [_section(report, folder) for report in reports]
    if config:
        sections.append(
            f"<h2>Config</h2>\n<details><summary>all settings of the run</summary>"
            f"<pre>{html.escape(config)}</pre></details>"
        )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f'<h1>{html.escape(title)}</h1>\n<p class="lead">{lead}</p>',
            *sections,
            "</body>\n</html>\n",
        ]
    )


def _section(report: Mapping[str, Any], folder: pathlib.Path) -> str:
    setup = dict(report["setup"])
    pictures = [_picture(folder / name) for name in setup.pop("pictures")]
    rows = [
        _row([name, ours, paper], number=True)
        for name, ours, paper in figure_rows(report["figures"], report["paper"])
    ]
    setting = [_row([key, _shown(value)]) for key, value in setup.items()]
    return "\n".join(
        [
            f"<h2>{html.escape(report['task'])}</h2>",
            '<div class="wide"><table><tr><th>figure</th><th class="number">ours</th>'
            f'<th class="number">paper</th></tr>{"".join(rows)}</table></div>',
            *pictures,
            "<details open><summary>setting</summary>"
            f'<div class="wide"><table>{"".join(setting)}</table></div></details>',
        ]
    )


def figure_rows(
    figures: Mapping[str, float], paper: Mapping[str, float] | None
) -> list[tuple[str, str, str]]:
    """Rows (figure, ours, the paper's) as text; figures that only the paper has are last."""
    paper = paper or {}
    rows = [
        (name, f"{value:.6g}", str(paper.get(name, "-"))) for name, value in figures.items()
    ]
    return rows + [(n, "not measured", str(paper[n])) for n in paper if n not in figures]


def _picture(path: pathlib.Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    caption = html.escape(path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{content}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(cells: list[str], number: bool = False) -> str:
    """A table row; with `number`, all cells but the first are aligned as numbers."""
    first, *rest = (html.escape(cell) for cell in cells)
    opening = '<td class="number">' if number else "<td>"
    return f"<tr><td>{first}</td>{''.join(f'{opening}{cell}</td>' for cell in rest)}</tr>"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
