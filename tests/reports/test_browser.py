"""The report's pages as a browser draws them: on a phone and a desk, light and dark.

A slow test. Playwright drives a browser that is on PATH under one of the names below, or the one
that `launch/test --slow` puts into the environment.
"""

import shutil

import pytest

from lfbm_jax.reports import index, overview, page
from tests.reports.test_index import workdir  # noqa: F401

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
CONTRAST = 4.5  # of text against its background, the level AA of WCAG 2

# Every element that holds text of its own: the text, and the colours it and its background have.
COLOURS = """() => {
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
    return 'rgb(255, 255, 255)';  // the page's own in the light
  };
  const texts = e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll('*')]
    .filter(e => e.getClientRects().length && texts(e))
    .map(e => [e.textContent.trim().slice(0, 40),
               getComputedStyle(e)[e instanceof SVGElement ? 'fill' : 'color'], ground(e)]);
}"""
IMAGES = "() => [...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().right])"
# The width that the content needs, and the width that there is.
WIDTHS = """() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'peers'")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYWRIGHT_BROWSERS_PATH", "0")  # within the package
        yield from _launched(playwright, found)


def _launched(playwright, found):
    """Yields the browser at a path, or Playwright's own if that is None; skips if there is none."""
    with playwright.sync_playwright() as driver:
        try:
            # Without its sandbox, the browser runs as root too, as in a container.
            shown = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            if "playwright install" not in str(error):
                raise
            pytest.skip("no Chromium on PATH, and none that launch/test --slow installed")
        yield shown
        shown.close()


@pytest.fixture
def pages(workdir):  # noqa: F811
    """The page of a run, and one over two runs with a wide table."""
    index.write(workdir)
    body = [page.table([f"column {i}" for i in range(30)], [["0.123456"] * 30])]
    over = overview.write(workdir.parent, "Sweep of <x>", "lead", body, {workdir.name: workdir})
    return [workdir / "reports" / "index.html", over]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_pages_are_drawn(browser, pages, width, scheme):
    """They fit, need no other file, show every picture, and their text stands out."""
    for path in pages:
        shown = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
        requested, complaints = [], []
        shown.on("request", lambda request, to=requested: to.append(request.url))
        shown.on("console", lambda message, to=complaints: to.append(message.text))
        shown.goto(path.as_uri())
        assert [url for url in requested if not url.startswith("data:")] == [path.as_uri()]
        assert not complaints
        needed, there = shown.evaluate(WIDTHS)
        assert needed <= there == width
        assert all(natural and right <= width for natural, right in shown.evaluate(IMAGES))
        texts = shown.evaluate(COLOURS)
        assert len(texts) > 30
        faint = [text for text in texts if contrast(text[1], text[2]) < CONTRAST]
        assert not faint
        dark = luminance(shown.evaluate("() => getComputedStyle(document.body).color")) > 0.5
        assert dark == (scheme == "dark")
        shown.close()


def luminance(colour):
    """Relative luminance of WCAG 2 of a computed style's rgb(...)."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
