"""Finds the config files of the experiments by name, in a clone and where a wheel is installed."""

import importlib.util
import pathlib
import re
from collections.abc import Sequence

import ml_collections

from lfbm_jax.errors import UserError, did_you_mean

PACKAGE = pathlib.Path(__file__).parents[1]
# A wheel holds the files inside the package. In a clone they lie beside it.
INSTALLED, CLONED = PACKAGE / "_configs", PACKAGE.parent / "configs"


def folder() -> pathlib.Path:
    """The folder of the experiments' config files."""
    return INSTALLED if INSTALLED.is_dir() else CLONED


def names() -> list[str]:
    """The names of all experiments."""
    return sorted(path.stem for path in folder().glob("*.py"))


def path(experiment: str) -> str:
    """Returns `FILE:VARIANTS` for `NAME:VARIANTS`; what names a file already stays as it is.

    Raises:
        UserError: there is no experiment of this name.
    """
    name, colon, variants = experiment.partition(":")
    if not re.fullmatch(r"\w+", name):
        return experiment
    if name not in names():
        raise UserError(f"config {name!r}: {did_you_mean(name, names())} (a path ends in .py)")
    return f"{folder() / name}.py{colon}{variants}"


def in_command(words: Sequence[str]) -> list[str]:
    """Returns a command line in which --config names a file."""
    found = list(words)
    for number, word in enumerate(found):
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-config") and equals:
            found[number] = f"{flag}={path(value)}"
        elif flag in ("--config", "-config") and number + 1 < len(found):
            found[number + 1] = path(found[number + 1])
    return found


def unknown_setting(words: Sequence[str]) -> str | None:
    """One line about the first word that sets what the config of a command line lacks, if any."""
    flags = dict(word.lstrip("-").partition("=")[::2] for word in words if word.startswith("-"))
    settings = [flag for flag in flags if flag.startswith("config.")]
    if settings and "config" not in flags:
        return f"--{settings[0]}: add --config=EXPERIMENT, whose setting this changes"
    try:
        config = get_config(flags.get("config", ""))
    except Exception:  # A config file may raise anything, and that is then the mistake.
        return None
    for flag in settings:
        section, known = "config", config
        for name in flag.split(".")[1:]:
            if not isinstance(known, ml_collections.ConfigDict):
                break
            if name not in known:
                return f"--{flag}: {section} has no setting {name!r}: {did_you_mean(name, known)}"
            section, known = f"{section}.{name}", known[name]
    return None


def get_config(experiment: str) -> ml_collections.ConfigDict:
    """Returns the config of an experiment.

    Args:
        experiment: what `--config` takes: a name such as "digits" or a file such as
            "configs/digits.py", with variants after a colon, as in "digits:lebm,smoke".

    Returns:
        The config, locked: its values can be changed, and no key can be added.

    Raises:
        UserError: there is no such experiment, file or variant.
    """
    file, _, variants = path(experiment).partition(":")
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, file)
    if spec is None or spec.loader is None or not pathlib.Path(file).is_file():
        raise UserError(f"config {file!r}: no such file; give a path FILE.py, or one of the names"
                        f" {', '.join(names())}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variants)
