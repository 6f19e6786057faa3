"""The page of a run: its order, its words, and that it needs nothing else.

The page's structure is read by the standard library's parser; `test_browser.py` looks at it in a
browser.
"""

import base64
import json
import re

import numpy as np
import pytest

from lfbm_jax.reports import index, report
from tests.builders import small_config
from tests.reports.html_page import Page


def write_metrics(run, steps=30):
    """Metrics whose last line is being written."""
    lines = [
        {
            "step": step,
            "train/mse": 1 / step,
            "train/grad_norm_prior": 2.0,
            "train/grad_norm_generator": 3.0,
            "sample/log_p_z": -5.0,
            "sample/mismatch": 2.0,
            "my/figure": 0.5 * step,
            "epoch": step / 10,
        }
        for step in range(1, steps + 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text + '{"step": 31, "train')


def draw(run, kind, step):
    picture = np.full((4, 4, 3), step, np.uint8)
    return report.plots.save(picture, run / kind / f"{step:08d}.png")


@pytest.fixture
def workdir(tmp_path):
    """A run's folder with two reports, one with a picture, and names that HTML must not take."""
    run = tmp_path / "a <run> & more"
    config = small_config()
    config.data.name = "digits <8 & 9>"
    papers = {"mse": 0.005, "fid": 23.64}
    writer = report.ReportWriter(run, "reconstruct", 30, config, papers=lambda report: papers)
    writer.describe(split="test", inference={"num_steps": 3})
    writer.picture("reconstructions", np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    writer.write({"mse": 0.0123456789, "mse_of_mean_image": 0.25, "num_images": 12345})
    report.ReportWriter(run, "generate", 30, config).write({"mean_log_p_z": -2.5, "mine": 1.0})
    (run / "config.json").write_text(json.dumps({"data": {"name": "<digits>"}}))
    write_metrics(run)
    draw(run, "samples", 20)
    return run


def page_of(run):
    markdown, page = index.write(run)
    return markdown.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")


def test_curves_then_pictures_then_figures_then_settings(workdir):
    _, text = page_of(workdir)
    places = [text.index(part) for part in ("<svg", "<img", "<h2>Samples", "<h2>Reconstructions")]
    assert places == sorted(places)
    found = Page(text)
    headings = found.of("h2")
    assert headings[:2] == ["Training", "Pictures"] and headings[-1] == "Config"
    assert all("open" not in attributes for tag, attributes in found.tags if tag == "details")
    assert found.of("summary") == ["setting", "setting", "all settings of the run"]


def test_curves_of_everything_that_was_logged(workdir):
    found = Page(page_of(workdir)[1])
    captions = found.of("figcaption")
    for caption in ("Gradients of the parameters, norms", "my/figure",
                    "Mean squared error of reconstructions, training images"):
        assert caption in captions
    notes = found.of("small")
    assert "MSE 1 → 0.03333" in notes
    assert "samples of the prior -5 → -5; inferred, training images -7 → -7" in notes
    drawn = sum(tag == "svg" for tag, _ in found.tags)
    assert drawn == 4 and drawn + 1 == len(captions)
    names = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_figures_in_words_beside_the_papers_where_it_has_any(workdir):
    markdown, text = page_of(workdir)
    rows = Page(text).rows
    words = "mean squared error of reconstructions, pixels from -1 to 1"
    for row in (
        ["figure", "ours", "paper"],
        [f"{words}|mse; better: lower", "0.01235", "0.005"],
        ["images measured|num_images", "12,345", ""],
        ["figure", "ours"],
        ["mean log p(z) of the latent vectors|mean_log_p_z, in nats", "-2.5"],
        ["mine|mine", "1"],
        [f"{words}|mse; better: lower", "0.01235", "0.25|the mean training image"],
        ["data", "digits <8 & 9>"],
        ["inference", "num_steps 3"],
    ):
        assert row in rows
    (fid,) = [row for row in rows if "|fid" in row[0]]
    assert fid[1:] == ["not measured", "23.64"]
    assert "pictures" not in [row[0] for row in rows], "they are shown, not named"
    assert f"| mse | {words} | 0.01235 | 0.005 |" in markdown
    assert "| mine | mine | 1 |" in markdown
    assert "![reconstruct_reconstructions.png](reconstruct_reconstructions.png)" in markdown


def test_a_figure_that_was_measured_otherwise_is_not_missing():
    report = {"figures": {"fid_of_300_images": 50.0}, "paper": {"fid": 23.64}, "setup": {}}
    assert [row.name for row in index._rows(report)] == ["fid_of_300_images"]


def test_a_run_in_training_shows_its_newest_pictures(workdir):
    """Once the tasks have run at a later step, their pictures take the place of training's."""
    assert Page(page_of(workdir)[1]).of("figcaption")[-1] == (
        "Reconstructions, step 30"
    )
    draw(workdir, "samples", 40)
    (workdir / "samples" / "best one.png").write_bytes(b"")
    captions = Page(page_of(workdir)[1]).of("figcaption")
    assert captions[-2] == "samples of the model, step 40"


def test_a_run_that_has_only_just_begun(tmp_path):
    assert "Not trained yet." in page_of(tmp_path / "run")[1]


def test_warnings_come_first(workdir):
    line = {"step": 1000, "problem": "chains_far", "message": "chains diverge <!>"}
    assert "Training gave no warning." in page_of(workdir)[1]
    (workdir / "health.jsonl").write_text(json.dumps(line) + "\n")
    markdown, text = page_of(workdir)
    assert text.index("Warning at step 1,000: chains diverge &lt;!&gt;") < text.index("<svg")
    assert "Training gave no warning." not in text and "chains diverge" in markdown


def test_a_file_that_is_no_report_and_a_picture_that_is_gone_stop_nothing(workdir):
    (workdir / "reports" / "notes.json").write_text("{")
    (workdir / "reports" / "list.json").write_text("[1]")
    (workdir / "reports" / "reconstruct_reconstructions.png").unlink()
    _, text = page_of(workdir)
    for name in ("notes.json", "list.json"):
        assert f"{name} is not a report of this package" in text
    assert "<img" not in text


def test_page_is_self_contained(workdir):
    """Its pictures are those of the folder, and nothing names another resource."""
    _, text = page_of(workdir)
    tags = Page(text).tags
    (image,) = [attributes for tag, attributes in tags if tag == "img"]
    kind, content = image["src"].split(",", 1)
    assert kind == "data:image/png;base64"
    picture = workdir / "reports" / "reconstruct_reconstructions.png"
    assert base64.b64decode(content) == picture.read_bytes()
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}
    assert not re.search(r"https?:|url\((?!#)|@import", text)


def test_page_fits_a_phone_and_the_dark(workdir):
    """Only tables and code may scroll sideways, and they do so by themselves."""
    _, text = page_of(workdir)
    tags = Page(text).tags
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags
    assert "@media (prefers-color-scheme: dark)" in text and "color-scheme: light dark" in text
    assert text.count('<div class="wide"><table') == text.count("<table") > 0
    for rule in (r"\.wide \{ overflow-x: auto", r"pre \{[^}]*overflow-x: auto",
                 r"svg, img \{[^}]*max-width: 100%"):
        assert re.search(rule, text)


def test_page_escapes_what_it_is_told(workdir):
    _, text = page_of(workdir)
    assert "a &lt;run&gt; &amp; more" in text
    assert "<run>" not in text and "<digits>" not in text


def test_a_seeds_page_says_whose_seed_it_is(workdir):
    run = workdir.rename(workdir.with_name("seed-0"))
    _, text = page_of(run)
    assert f"<title>{run.parent.name}/seed-0</title>" in text


def test_a_report_takes_the_old_ones_place_when_it_is_whole(workdir):
    """Whoever has the old files open goes on reading them: nothing is written into them."""
    folder = workdir / "reports"
    index.write(workdir)
    names = ("generate.json", "index.md", "index.html")
    before = {name: (folder / name).read_text() for name in names}
    for name in names:
        (folder / f"old-{name}").hardlink_to(folder / name)
    report.ReportWriter(workdir, "generate", 30, small_config()).write({"pixel_mean": 0.25})
    (folder / "old-generate.json").rename(workdir / "old-generate.json")
    index.write(workdir)
    assert (workdir / "old-generate.json").read_text() == before["generate.json"]
    for name in names[1:]:
        assert (folder / f"old-{name}").read_text() == before[name] != (folder / name).read_text()
