"""A folder that holds a trained model and nothing else, to be shared: its format, and reading it.

    model.safetensors    the parameters, by names such as `beta.layer_0.kernel`, and in the file's
                         metadata the step, what the parameters are, and a checksum
    config.json          the config of the run, as in a work directory, without paths
    README.md            the model card (see `model_card`)

Reading it needs neither Orbax nor the run. `model.safetensors` is written last, so a folder that
has it is complete.
"""

import pathlib
import zlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.model import Model, Parameters
from lfbm_jax.runs import build
from lfbm_jax.runs.workdir import load_config
from lfbm_jax.trained.api import TrainedModel

FILE = "model.safetensors"
FORMAT = {"format": "lfbm_jax", "format_version": "1"}
LAST, AVERAGE = "last iteration", "moving average"  # what the parameters can be


def is_export(folder: pathlib.Path) -> bool:
    """Whether a folder is an export rather than a work directory."""
    return (folder / FILE).exists()


def write(folder: pathlib.Path, trained: TrainedModel, kind: str) -> None:
    """Writes `model.safetensors` with the parameters of the model: alpha, beta and phi, if any.

    Networks of the objective (psi) are left out if only training uses them, not if they score
    images.

    Args:
        folder: an existing folder.
        trained: the model; its parameters are finite.
        kind: `LAST` or `AVERAGE`.
    """
    parameters = _used(trained.model, jax.device_get(trained.parameters))
    arrays = {
        name: np.array(leaf, order="C")  # The file format takes such arrays only.
        for name, leaf in _named(parameters).items()
    }
    found = {"step": str(trained.step), "parameters": kind, "crc32": str(_checksum(arrays))}
    with atomic.replacing(folder / FILE) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, FORMAT | found))


def load(folder: pathlib.Path, step: int | None = None) -> TrainedModel:
    """Loads the model of an exported folder.

    Args:
        folder: the folder.
        step: the step that the model must have; None for any.

    Raises:
        UserError: a file is missing, damaged or of another format, or the step is another.
    """
    path = folder / FILE
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: config.json is missing beside {FILE}; copy it too")
    config = load_config(folder)
    model = build.model(config)
    arrays, metadata = _read(path)
    there = int(metadata["step"])
    if step not in (None, there):
        raise UserError(f"step={step}: {folder} holds step {there} only; leave step out")
    template = _used(model, jax.eval_shape(model.init, jax.random.key(0)))
    return TrainedModel(config, model, _filled(template, arrays, path), there)


def _used(model: Model, parameters: Parameters) -> Parameters:
    """The parameters that a trained model uses."""
    return parameters if model.objective.score_name else parameters._replace(psi=None)


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays and the metadata of a file, after comparing the checksum."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): fetch or export it again") from error
    found = {key: metadata.get(key) for key in FORMAT}
    if found["format"] != FORMAT["format"]:
        raise UserError(
            f"{path} is not a model of lfbm_jax: make one with"
            " python -m lfbm_jax.convert RUN --export=FOLDER"
        )
    if found != FORMAT:
        raise UserError(
            f"{path} has format {found['format_version']}, and this release reads format"
            f" {FORMAT['format_version']}: install a newer release of lfbm_jax"
        )
    if metadata.get("crc32") != str(_checksum(arrays)) or not metadata.get("step", "").isdecimal():
        raise UserError(f"{path} is damaged (its checksum differs): fetch or export it again")
    return arrays, metadata


def _filled(template: Parameters, arrays: dict[str, np.ndarray], path: pathlib.Path) -> Parameters:
    """Returns parameters of the template's structure, shapes and types, from arrays by name."""
    wanted = _named(template)
    remedy = "use the config.json that was exported with it, and the release that made it"
    for name in sorted(wanted.keys() ^ arrays.keys()):
        problem = "missing" if name in wanted else "unknown to the model of config.json"
        raise UserError(f"{path}: {name} is {problem}; {remedy}")
    for name, leaf in wanted.items():
        shape = arrays[name].shape
        if shape != leaf.shape:
            raise UserError(f"{path}: {name} has shape {shape} instead of {leaf.shape}; {remedy}")
        if not np.all(np.isfinite(arrays[name])):
            raise UserError(f"{path}: {name} is not finite: fetch or export it again")
    return jax.tree_util.tree_map_with_path(
        lambda place, leaf: arrays[_name(place)].astype(leaf.dtype), template
    )


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), value))
    return value
