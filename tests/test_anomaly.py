"""Table 4: the list of runs, and the command on made-up images."""

import json

import pytest

from lfbm_jax import anomaly
from tests.builders import experiment


def test_every_run_holds_out_its_digit_and_has_its_seed(tmp_path):
    config = experiment("mnist_anomaly")
    runs = {run.name: run for run in anomaly.each_run(config, [4, 0], 2, tmp_path)}
    names = ["digit-4/seed-0", "digit-0/seed-0", "digit-4/seed-1", "digit-0/seed-1"]
    assert list(runs) == names
    assert [run.folder for run in runs.values()] == [tmp_path / name for name in names]
    assert [run.config.data.exclude_labels for run in runs.values()] == [(4,), (0,), (4,), (0,)]
    assert [run.config.seed for run in runs.values()] == [0, 0, 1, 1]
    assert config.data.exclude_labels == (1,), "the given config is left alone"
    config.seed = 3
    assert [run.config.seed for run in anomaly.each_run(config, [4], 2, tmp_path)] == [3, 4]


@pytest.mark.slow
def test_command_line(run_python, tmp_path):
    """The made-up images have the labels 0 to 9."""
    command = ["-m", "lfbm_jax.anomaly", "--config=configs/mnist_anomaly.py:smoke"]
    command += [f"--workdir={tmp_path / 'runs'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    done = run_python([*command, "--digits=0,1", "--seeds=1"])
    table = (tmp_path / "runs" / "tables.md").read_text()
    assert table in done.stdout
    for digit in (0, 1):
        run = tmp_path / "runs" / f"digit-{digit}" / "seed-0"
        report = json.loads((run / "reports" / "anomaly.json").read_text())
        assert 0 < report["figures"]["auprc"] <= 1
        assert report["setup"]["pooled_train_share"] == 0.8
        assert report["setup"]["exclude_labels"] == [digit]
        assert str(run) in table
        page = (tmp_path / "runs" / "index.html").read_text()
        assert f'href="digit-{digit}/seed-0/reports/index.html"' in page
    for digit, message in (("one", "--digits=one"), ("0,12", "no label 12")):
        wrong = run_python([*command, f"--digits={digit}"], check=False)
        assert wrong.returncode == 2 and message in wrong.stderr
