"""Reports: what is written, and that a figure that is not finite makes none."""

import json
import pathlib
import re
import subprocess

import pytest

from lfbm_jax.reports import report
from tests.builders import small_config


def test_a_report_states_its_figures_its_setting_and_the_papers(tmp_path):
    def papers(written):
        assert written["figures"]["num_images"] == 300 and written["setup"]["split"] == "test"
        return {"mse": 0.005, "fid": 23.64}

    writer = report.ReportWriter(tmp_path, "reconstruct", 1200, small_config(), papers=papers)
    writer.describe(split="test")
    figures = {"mse": 0.0123456789, "num_images": 300}
    written = json.loads(writer.write(figures).read_text())
    assert (written["task"], written["step"]) == ("reconstruct", 1200)
    assert written["figures"] == figures and written["paper"] == {"mse": 0.005, "fid": 23.64}
    assert written["setup"]["versions"]["jax"]


def test_a_figure_that_is_not_finite_makes_no_report(tmp_path):
    writer = report.ReportWriter(tmp_path, "generate", 1, small_config())
    with pytest.raises(FloatingPointError, match="generate: fid is nan"):
        writer.write({"fid": float("nan")})
    assert not (tmp_path / "reports").exists()


def test_the_commit_is_of_our_files_and_never_of_a_tree_they_were_installed_into(
    tmp_path, monkeypatch
):
    ours = pathlib.Path(report.__file__)
    if not (ours.parents[2] / ".git").exists():
        pytest.skip("these tests do not run in a clone")
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?|.*-g[0-9a-f]{12}(-dirty)?", report._commit())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", *identity, "commit", "-q", "--allow-empty", "-m", "another project"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    installed = tmp_path / "report.py"
    installed.write_bytes(ours.read_bytes())
    monkeypatch.setattr(report, "__file__", str(installed))
    assert report._commit() == "unknown"
