"""Reports: what the index and the web page show, and that the page needs no other file."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest

from lfbm_jax.reports import report
from tests.builders import small_config


@pytest.fixture
def workdir(tmp_path):
    """A run's folder with two reports, one with a picture, and names that HTML must not take."""
    run = tmp_path / "a <run> & more"
    config = small_config()
    config.data.name = "digits <8 & 9>"

    def papers(written):
        assert written["figures"]["num_images"] == 300 and written["setup"]["split"] == "test"
        return {"mse": 0.005, "fid": 23.64}

    writer = report.ReportWriter(run, "reconstruct", 1200, config, papers=papers)
    writer.describe(split="test", inference={"num_steps": 3})
    writer.picture("pairs", np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    writer.write({"mse": 0.0123456789, "num_images": 300})
    report.ReportWriter(run, "generate", 1200, config).write({"pixel_mean": -0.5})
    (run / "config.json").write_text(json.dumps({"data": {"name": "<digits>"}}))
    return run


class Page(html.parser.HTMLParser):
    """Collects tags, the cells of tables row by row, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_index_puts_ours_beside_the_papers(workdir):
    markdown, _ = report.write_index(workdir)
    text = markdown.read_text()
    for row in ("| mse | 0.0123457 | 0.005 |", "| fid | not measured | 23.64 |",
                "| num_images | 300 | - |", "| pixel_mean | -0.5 | - |"):
        assert row in text
    assert "![reconstruct_pairs.png](reconstruct_pairs.png)" in text


def test_page_says_the_same(workdir):
    _, page = report.write_index(workdir)
    rows = Page(page.read_text(encoding="utf-8")).rows
    for row in (["mse", "0.0123457", "0.005"], ["fid", "not measured", "23.64"],
                ["num_images", "300", "-"], ["pixel_mean", "-0.5", "-"],
                ["data", "digits <8 & 9>"], ["inference", "num_steps 3"]):
        assert row in rows
    assert "pictures" not in [row[0] for row in rows], "they are shown, not named"


def test_page_is_self_contained(workdir):
    """Its pictures are those of the folder, and nothing names another resource."""
    _, page = report.write_index(workdir)
    text = page.read_text(encoding="utf-8")
    tags = Page(text).tags
    (image,) = [attributes for tag, attributes in tags if tag == "img"]
    kind, content = image["src"].split(",", 1)
    assert kind == "data:image/png;base64"
    picture = workdir / "reports" / "reconstruct_pairs.png"
    assert base64.b64decode(content) == picture.read_bytes()
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert not re.search(r"https?:|url\(|@import", text)


def test_page_escapes_what_it_is_told(workdir):
    _, page = report.write_index(workdir)
    text = page.read_text(encoding="utf-8")
    assert "Reports of a &lt;run&gt; &amp; more" in text
    assert "<run>" not in text and "<digits>" not in text


def test_a_figure_that_is_not_finite_makes_no_report(tmp_path):
    writer = report.ReportWriter(tmp_path, "generate", 1, small_config())
    with pytest.raises(FloatingPointError, match="generate: fid is nan"):
        writer.write({"fid": float("nan")})
    assert not (tmp_path / "reports").exists()


def test_a_report_takes_the_old_ones_place_when_it_is_whole(workdir):
    """A reader that has the old files open can continue: nothing is written into them."""
    folder = workdir / "reports"
    report.write_index(workdir)
    names = ("generate.json", "index.md", "index.html")
    before = {name: (folder / name).read_text() for name in names}
    for name in names:
        (folder / f"old-{name}").hardlink_to(folder / name)
    report.ReportWriter(workdir, "generate", 1200, small_config()).write({"pixel_mean": 0.25})
    (folder / "old-generate.json").rename(workdir / "old-generate.json")
    report.write_index(workdir)
    assert (workdir / "old-generate.json").read_text() == before["generate.json"]
    for name in names[1:]:
        assert (folder / f"old-{name}").read_text() == before[name] != (folder / name).read_text()
