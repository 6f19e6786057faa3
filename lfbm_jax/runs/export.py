"""Exports the trained model of a work directory as a folder of files to be shared."""

import json
import pathlib

import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.runs import build, exported, model_card, restore
from lfbm_jax.runs.recorded import Run, read_run
from lfbm_jax.runs.workdir import load_config, plain
from lfbm_jax.trained.api import TrainedModel

# Paths on the machine of the run, which are nobody else's business. Loading uses none of them.
PATHS = (
    "data.dir",
    "data.manual_dir",
    "data.cache_dir",
    "metrics.inception_weights",
    "metrics.fid_statistics",
)


def export(workdir: pathlib.Path, folder: pathlib.Path) -> TrainedModel:
    """Writes the newest model of a work directory into a new folder; see `exported`.

    If the run kept a moving average of the parameters, the average is exported.

    Returns:
        The exported model.

    Raises:
        UserError: there is no trained model, its prior is not fitted yet, or the folder is not
            empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--export={folder} exists and is not empty; choose a new folder")
    run, config = read_run(workdir), load_config(workdir)
    trained = restore.trained(config, build.model(config), workdir)
    averaged = trained.averaged
    model, kind = (averaged, exported.AVERAGE) if averaged else (trained, exported.LAST)
    model.check_prior()
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(plain(without_paths(config)), indent=2)
    for name, text in (
        ("config.json", f"{content}\n"),
        ("README.md", model_card.text(run, model, kind)),
    ):
        atomic.write_text(folder / name, _without_folders_of_masks(text, run))
    exported.write(folder, model, kind)
    return model


def _without_folders_of_masks(text: str, run: Run) -> str:
    """A text in which the picture of a mask has its name only; it says what was hidden."""
    masks = {run.config["data"]["mask"], run.config["task"]["inpaint"]["mask"]}
    masks |= {report["setup"].get("mask", "") for report in run.reports.values()}
    for mask in masks:
        kind, _, path = mask.partition(":")
        if kind == "png":
            name = pathlib.PurePath(path).name
            for written in (str, _in_json):
                text = text.replace(written(path), written(name))
    return text


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def without_paths(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy of the config in which the settings of `PATHS` are empty."""
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(dict.fromkeys(PATHS, ""))
    return copy.lock()
