"""Defines the flags --config and --workdir, which several commands share."""

import pathlib
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from lfbm_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "an experiment by name, such as svhn or svhn:smoke, or the path of its file"
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "the work directory, or the folder in which the command makes several"
)
MISSING = "--config is missing: give an experiment, such as --config=digits, or its file"


def config() -> ml_collections.ConfigDict:
    """The config of --config with its variants and overrides; UserError if the flag is missing."""
    if CONFIG.value is None:
        raise UserError(MISSING)
    return CONFIG.value


def config_file() -> tuple[str, str]:
    """The file that --config names, and the variants after the colon ("" for none)."""
    path, _, variants = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    return path, variants


def overrides() -> dict[str, Any]:
    """The values that flags such as --config.train.num_steps=50 set, by dotted name."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def workdir(default: str) -> pathlib.Path:
    """The folder of --workdir, or the default if the flag is missing."""
    return pathlib.Path(WORKDIR.value or default)
