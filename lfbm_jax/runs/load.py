"""Loads a trained model from a work directory, an exported folder or the hub."""

import os
import pathlib
import re

from lfbm_jax.errors import UserError
from lfbm_jax.files import extras, hub
from lfbm_jax.runs import build, exported
from lfbm_jax.runs.workdir import load_config
from lfbm_jax.trained.api import TrainedModel

HUB = "hf://"


def load(place: str | os.PathLike, step: int | None = None) -> TrainedModel:
    """Loads a trained model.

    A model of the hub is fetched once into the hub's own cache (`HF_HOME`); this needs the extra
    `huggingface`. Loading an exported model does not need Orbax.

    Args:
        place: a work directory made by `lfbm_jax.main`, `lfbm_jax.train` or `lfbm_jax.convert`; a
            folder made by `lfbm_jax.convert --export`; or a repository of Hugging Face's hub that
            holds such a folder, as "hf://OWNER/NAME" or "hf://OWNER/NAME@REVISION".
        step: the step of the checkpoint; None for the newest.

    Raises:
        UserError: there is no model at this place, no such step, or a file cannot be read.
    """
    name = os.fspath(place)
    if name.startswith(HUB):
        return exported.load(_fetched(name), step)
    folder = pathlib.Path(name)
    if exported.is_export(folder):
        return exported.load(folder, step)
    config = load_config(folder)
    from lfbm_jax.runs import restore  # Imports Orbax, which takes a second.

    return restore.trained(config, build.model(config), folder, step)


def _fetched(name: str) -> pathlib.Path:
    """Fetches an exported model from the hub; returns its folder in the hub's cache."""
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@(.+))?", name.removeprefix(HUB))
    if not named:
        raise UserError(
            f"{name!r} is not a name on the hub: use {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION"
        )
    repository, revision = named.groups()
    package = extras.imported("huggingface_hub", repr(name), "huggingface")
    with hub.explained(repr(name), "models", "load a folder that was fetched by other means"):
        folder = pathlib.Path(
            package.snapshot_download(
                repository, revision=revision, allow_patterns=["config.json", exported.FILE]
            )
        )
    if not exported.is_export(folder):
        raise UserError(
            f"{name!r} has no {exported.FILE}: name a repository whose files were made with"
            " python -m lfbm_jax.convert RUN --export=FOLDER"
        )
    return folder
