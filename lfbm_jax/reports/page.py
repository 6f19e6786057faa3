"""Makes web pages that need nothing but themselves, and are read on a phone and in the dark too."""

import base64
import html
import pathlib
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #d5d8dc; --soft: #f4f5f7; --faint: #5f6b7a;
        --warn: #b3421a; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4048; --soft: #1e2227; --faint: #a0a8b2; --warn: #f0936b; }
  body { background: #14171a; color: #e6e8ea; }
  a { color: #7db8f0; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem;
       overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .5rem 0 .25rem; }
h2 { border-top: 1px solid var(--line); font-size: 1.25rem; margin: 2rem 0 .75rem;
     padding-top: 1rem; }
.lead, small, summary { color: var(--faint); }
.warning { color: var(--warn); }
small { display: block; }
.tiles { display: grid; gap: 1rem 1.5rem;
         grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1rem .3rem 0; text-align: left;
         vertical-align: top; }
.numbers :is(th, td):not(:first-child) { text-align: right; }
figure { margin: 0 0 1rem; min-width: 0; }
figcaption { font-size: .9rem; margin-bottom: .25rem; }
svg, img { display: block; height: auto; max-width: 100%; }
svg { width: 100%; }
img { background: #fff; border: 1px solid var(--line); }
pre { background: var(--soft); overflow-x: auto; padding: 1rem; }
summary { cursor: pointer; margin: .75rem 0; }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page from its title and the elements below the heading."""
    name = html.escape(title)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def heading(text: str) -> str:
    """The heading of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, kind: str = "lead") -> str:
    """A paragraph; its kind is a class of the style sheet, such as "lead" or "warning"."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A table that scrolls sideways by itself if it is wider than the screen.

    Args:
        header: the names of the columns; empty for none.
        rows: the cells. A second line of a cell is shown small.
        numbers: whether all columns but the first are aligned as numbers.
    """
    lines = [_row("th", header)] if header else []
    lines += [_row("td", row) for row in rows]
    kind = ' class="numbers"' if numbers else ""
    return f'<div class="wide"><table{kind}>{"".join(lines)}</table></div>'


def picture(path: pathlib.Path, caption: str) -> str:
    """A PNG file, embedded in the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(caption)
    return figure(caption, f'<img alt="{alt}" src="data:image/png;base64,{content}">')


def figure(caption: str, content: str, note: str = "") -> str:
    """An element, such as an <svg>, with a caption above and a note below."""
    below = f"<small>{html.escape(note)}</small>" if note else ""
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{content}{below}</figure>"


def tiles(elements: Iterable[str]) -> str:
    """Elements side by side, as many as the screen is wide enough for."""
    return f'<div class="tiles">{"".join(elements)}</div>'


def folded(summary: str, content: str) -> str:
    """Content that shows when the reader asks for it."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def code(text: str) -> str:
    """Text as it is, such as a file."""
    return f"<pre>{html.escape(text)}</pre>"


def links(targets: Iterable[tuple[str, str]]) -> str:
    """A list of links from (text, relative address)."""
    items = (f'<a href="{html.escape(to)}">{html.escape(text)}</a>' for text, to in targets)
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(cell)}</{tag}>' for cell in cells)}</tr>"


def _cell(text: str) -> str:
    first, _, more = html.escape(text).partition("\n")
    return f"{first}<small>{more}</small>" if more else first
