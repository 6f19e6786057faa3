"""The check of a device: parts fail independently, and results are written after each part."""

import importlib.util
import json
import pathlib
import time

import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.runs import checks
from lfbm_jax.runs.checks import Check, Command, Found, Part


@pytest.fixture
def check(tmp_path):
    return Check(tmp_path, True, time.monotonic() + 60)


def test_a_part_that_fails_keeps_no_other_from_running(tmp_path, monkeypatch, capsys):
    def written():
        return json.loads((tmp_path / "gpu_check.json").read_text())

    def broken(check):
        raise RuntimeError("no such device")

    def last(check):
        assert list(written()) == ["first", "broken"], "written when a part ends"
        return Found({"a": 1}, ["off by two"])

    parts = {
        "first": Part(9, lambda check: Found({"tiny": check.tiny}, [])),
        "broken": Part(9, broken),
        "last": Part(9, last),
    }
    monkeypatch.setattr(checks, "PARTS", parts)
    checks.check_all(tmp_path, list(parts), True, 60)
    results = written()
    assert {name: result["faults"] for name, result in results.items()} == {
        "first": [], "broken": ["no such device"], "last": ["off by two"]
    }  # fmt: skip
    assert results["first"]["figures"] == {"tiny": True}
    assert results["last"]["figures"] == {"a": 1}
    rows = (tmp_path / "gpu_check.md").read_text().splitlines()
    assert any(row.startswith("| broken | no such device |") for row in rows)
    assert "broken failed: no such device" in capsys.readouterr().out


def test_each_part_has_its_time_and_all_have_theirs_together(tmp_path, monkeypatch):
    left = {}

    def part(name):
        def run(check):
            left[name] = check.deadline - time.monotonic()
            return Found({}, [])

        return run

    parts = {"short": Part(150, part("short")), "long": Part(900, part("long"))}
    monkeypatch.setattr(checks, "PARTS", parts)
    checks.check_all(tmp_path, ["short", "long"], True, 60)  # a tenth of ten minutes
    assert 14 < left["short"] <= 15 and 55 < left["long"] <= 60


def test_a_peer_that_fails_does_not_keep_ours_from_being_measured(tmp_path, monkeypatch):
    def run(check, command):
        if any("deterministic" in argument for argument in command.arguments):
            raise UserError("no compiler")
        (out,) = (a.partition("=")[2] for a in command.arguments if a.startswith("--out="))
        pathlib.Path(out).write_text(json.dumps({"peers": command.name}))

    monkeypatch.setattr(Check, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    found = checks.speed("svhn", Check(tmp_path, True, 0.0))
    assert found == Found({"peers": "benchmark-svhn-pytorch"}, ["no compiler"])


def test_a_process_that_fails_is_named_with_its_last_line(check):
    with pytest.raises(UserError, match=r"mine: exit status 1: .*no_such_module.*mine\.log"):
        check.run(Command("mine", ["no_such_module"]))


def test_processes_end_with_their_time_and_so_do_those_they_started(tmp_path):
    """The inner process would write its file a second after the deadline."""
    program = tmp_path / "outer.py"
    program.write_text(
        "import subprocess, sys, time\n"
        "inner = 'import sys, time; time.sleep(3); open(sys.argv[1], \"w\")'\n"
        "subprocess.Popen([sys.executable, '-c', inner, sys.argv[1]])\n"
        "time.sleep(60)\n"
    )
    check = Check(tmp_path, True, time.monotonic() + 2)
    with pytest.raises(UserError, match="outer: out of time"):
        check.run(Command("outer", ["outer", tmp_path / "late"], {"PYTHONPATH": str(tmp_path)}))
    time.sleep(2)
    assert not (tmp_path / "late").exists()
