"""A crash leaves a report that says what happened; user errors and signals leave none."""

import json

import pytest

from lfbm_jax.errors import Interrupted, UserError
from lfbm_jax.runs import crash
from tests.builders import small_config


def fail_with(error, workdir):
    with pytest.raises(type(error)), crash.reported(workdir, small_config()):
        raise error


def test_report_of_an_unexpected_error(tmp_path, capsys):
    lines = [json.dumps({"step": step, "train/mse": 0.1 * step}) for step in range(9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 9, "tr')
    fail_with(RuntimeError("the device is gone"), tmp_path)
    report = json.loads((tmp_path / "crash.json").read_text())
    assert report["error"] == "RuntimeError: the device is gone"
    assert any("raise error" in line for line in report["traceback"])
    assert [line["step"] for line in report["last_metrics"]] == [4, 5, 6, 7, 8]
    assert report["config"]["model"]["latent_dim"] == 5
    assert report["versions"]["jax"] and report["device"] and report["command"]
    assert f"crash report: {tmp_path / 'crash.json'}" in capsys.readouterr().err


def test_a_run_that_crashed_before_its_first_line(tmp_path):
    fail_with(FloatingPointError("train/mse is nan"), tmp_path)
    assert json.loads((tmp_path / "crash.json").read_text())["last_metrics"] == []


@pytest.mark.parametrize("error", (UserError("sigma"), Interrupted(15, 3), KeyboardInterrupt()))
def test_no_report_of_what_is_no_crash(error, tmp_path):
    fail_with(error, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_error_survives_where_no_report_can_be_written(tmp_path, capsys):
    fail_with(RuntimeError("first"), tmp_path / "missing")
    assert "no crash report" in capsys.readouterr().err
