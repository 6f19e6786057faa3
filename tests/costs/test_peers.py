"""What a benchmark can compare with."""

import importlib.util

import pytest

from lfbm_jax.costs import peers
from lfbm_jax.errors import UserError
from tests.builders import experiment


def test_peers_that_cannot_be_measured_are_named(tmp_path, monkeypatch):
    config = experiment("svhn")
    with pytest.raises(UserError, match="--peer=pytorhc: neither pytorch, pytorch-compile nor"):
        peers.check("pytorhc", config)
    (tmp_path / "lfbm_jax").mkdir()
    (tmp_path / "lfbm_jax" / "benchmark.py").touch()
    peers.check(str(tmp_path), config)
    peers.check("deterministic", experiment("svhn", "lebm"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"PyTorch is missing: pip install -e \.\[peers\]"):
        peers.check("pytorch", config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    peers.check("pytorch", config)
    with pytest.raises(UserError, match="has only prior 'glow', not 'energy'"):
        peers.check("pytorch-compile", experiment("svhn", "lebm"))
