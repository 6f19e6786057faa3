"""What a benchmark compares with: the PyTorch peer, `deterministic` switched, another checkout."""

import functools
import importlib.util
import json
import operator
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections

from lfbm_jax.costs import measure
from lfbm_jax.errors import UserError

PEER = pathlib.Path(__file__).parents[2] / "tests" / "peers" / "pytorch_lfbm.py"
PYTORCH, PYTORCH_COMPILE, DETERMINISTIC = "pytorch", "pytorch-compile", "deterministic"

# Settings of which the PyTorch peer implements only this value. The names of parts come first,
# since their settings exist only with them.
PYTORCH_HAS = {
    "prior.name": "glow",
    "generator.name": "convnet",
    "inference.name": "langevin",
    "objective.name": "variational",
    "generator.spectral_norm": False,
    "inference.noise": True,
    "model.learned_sigma": False,
    "optimizer.generator.clip_norm": 0.0,
    "optimizer.prior.clip_norm": 0.0,
    "train.ema_decay": 0.0,
    "train.prior_inference_updates": 1,
}


def check(name: str, config: ml_collections.ConfigDict) -> None:
    """Raises UserError if there is no such peer."""
    if name in (PYTORCH, PYTORCH_COMPILE):
        if not PEER.exists():
            raise UserError(f"--peer={name}: {PEER} is missing: run the benchmark from a clone")
        if not importlib.util.find_spec("torch"):
            raise UserError(f"--peer={name}: PyTorch is missing: pip install -e .[peers]")
        pytorch_spec(config, compiled=False, device="cpu")
    elif name != DETERMINISTIC and not (pathlib.Path(name) / "lfbm_jax" / "benchmark.py").exists():
        raise UserError(
            f"--peer={name}: neither {PYTORCH}, {PYTORCH_COMPILE} nor {DETERMINISTIC}, nor a folder"
            " with a checkout of this repository"
        )


def command(
    name: str, config: ml_collections.ConfigDict, platform: str, ours: Sequence[str]
) -> tuple[list[str | os.PathLike], pathlib.Path | None]:
    """The command of a peer's process, and the folder to run it in (None: the current one).

    Args:
        name: the peer, which has passed `check`.
        config: the config to measure.
        platform: JAX's name of the platform that our own process runs on.
        ours: the command that measures the config with the package in its working directory.
    """
    if name in (PYTORCH, PYTORCH_COMPILE):
        device = "cpu" if platform == "cpu" else "cuda"
        spec = pytorch_spec(config, name == PYTORCH_COMPILE, device)
        return [sys.executable, PEER, json.dumps(spec)], None
    if name == DETERMINISTIC:
        return [*ours, f"--config.deterministic={not config.deterministic}"], None
    return [*ours], pathlib.Path(name)


def pytorch_spec(
    config: ml_collections.ConfigDict, compiled: bool, device: str
) -> dict[str, Any]:
    """The settings of a config that the PyTorch peer needs.

    Raises:
        UserError: the config's step does something that the peer lacks.
    """
    for field, known in PYTORCH_HAS.items():
        section, _, key = field.rpartition(".")
        value = functools.reduce(operator.getitem, section.split("."), config)[key]
        if value != known:
            raise UserError(
                f"{field}={value!r}: the PyTorch peer has only {known!r}; set it to that, or leave"
                " out that --peer"
            )
    side = config.data.image_size
    return {
        "latent_dim": config.model.latent_dim,
        "image_shape": [side, side, config.data.channels],
        "layers": [list(layer) for layer in config.generator.layers],
        "sigma": config.model.sigma,
        "flow_steps": config.prior.num_steps,
        "hidden_width": config.prior.hidden_width,
        "num_steps": config.inference.num_steps,
        "step_size": config.inference.step_size,
        "batch_size": config.train.batch_size,
        "prior_learning_rate": config.optimizer.prior.learning_rate,
        "generator_learning_rate": config.optimizer.generator.learning_rate,
        "b1": config.optimizer.generator.b1,
        "b2": config.optimizer.generator.b2,
        "precision": config.precision,
        "threads": measure.num_threads(),
        "compile": compiled,
        "device": device,
    }
