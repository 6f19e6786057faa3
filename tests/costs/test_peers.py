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
    with pytest.raises(UserError, match=r"^prior\.name='energy': the PyTorch peer has only 'glow'"):
        peers.check("pytorch-compile", experiment("svhn", "lebm"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("objective.name", "meg"),
        ("generator.spectral_norm", True),
        ("inference.noise", False),
        ("model.learned_sigma", True),
        ("optimizer.prior.clip_norm", 1.0),
        ("train.ema_decay", 0.9),
        ("train.prior_inference_updates", 6),
    ],
)
def test_a_step_that_pytorch_would_not_take_is_not_compared_with_its(field, value):
    config = experiment("svhn")
    peers.pytorch_spec(config, compiled=False, device="cpu")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f"^{field}={value!r}: the PyTorch peer has only"):
        peers.pytorch_spec(config, compiled=False, device="cpu")
