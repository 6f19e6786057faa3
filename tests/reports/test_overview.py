"""The page over many runs: relative links that lead to the runs' own pages."""

from lfbm_jax.reports import overview, page
from tests.reports.html_page import Page


def test_each_run_is_one_click_away_wherever_the_folder_lies(tmp_path):
    root = tmp_path / "sweep"
    runs = {"a & b": root / "a & b", "digit-1/seed-0": root / "digit-1" / "seed-0"}
    for folder in runs.values():
        (folder / "reports").mkdir(parents=True)
        (folder / "reports" / "index.html").touch()
    body = [page.table(["x", "mean"], [["1", "0.5"]])]
    path = overview.write(root, "Sweep of <x>", "lead", body, runs)
    moved = root.rename(tmp_path / "moved")
    found = Page((moved / path.name).read_text(encoding="utf-8"))
    targets = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert found.of("a") == [*runs] and found.of("h1") == ["Sweep of <x>"]
    assert all((moved / target).is_file() for target in targets) and len(targets) == 2
    assert ["1", "0.5"] in found.rows
