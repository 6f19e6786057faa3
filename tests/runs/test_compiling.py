"""The bar says what is compiled, and how long it took last time."""

import json

import pytest

from lfbm_jax.files import terminal
from lfbm_jax.runs import compiling
from tests.builders import experiment


class Bar:
    def __init__(self):
        self.desc = "training: "
        self.shown = []

    def set_description(self, text):
        self.shown.append(text)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "default_root", lambda: tmp_path)
    return tmp_path / compiling.FILE


def announce(config):
    bar = Bar()
    with compiling.announced(bar, config):
        assert len(bar.shown) == 1
    return bar.shown


def test_the_second_time_says_how_long_the_first_took(cache):
    config, other = experiment("digits"), experiment("digits", "lebm")
    assert announce(config) == ["compiling", "training"]
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: 12.3}))
    assert announce(config) == ["compiling (12 s last time)", "training"]
    assert announce(other) == ["compiling", "training"]
    assert len(json.loads(cache.read_text())) == 2


def test_a_damaged_file_or_a_folder_in_its_place_stops_nothing(cache):
    cache.write_text("{")
    assert announce(experiment("digits"))[0] == "compiling"
    cache.unlink()
    cache.mkdir()
    assert announce(experiment("digits"))[0] == "compiling"


def test_a_failure_is_not_remembered(cache):
    with pytest.raises(MemoryError), compiling.announced(Bar(), experiment("digits")):
        raise MemoryError
    assert not cache.exists()


def test_quiet_leaves_out_bars_and_notes(monkeypatch, capsys):
    monkeypatch.delenv(terminal.QUIET, raising=False)
    assert not terminal.is_quiet()
    terminal.note("preparing")
    list(terminal.bar(range(3)))
    seen = capsys.readouterr()
    assert seen.out == "preparing\n" and "3/3" in seen.err
    monkeypatch.setenv(terminal.QUIET, "0")  # so that it is restored
    terminal.be_quiet()
    terminal.note("preparing")
    list(terminal.bar(range(3)))
    seen = capsys.readouterr()
    assert seen.out == seen.err == ""
