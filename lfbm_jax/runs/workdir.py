"""Writes the work directory's config.json, and compares every later command's config with it."""

import contextlib
import errno
import fcntl
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic
from lfbm_jax.runs import build, configuration

# Settings that may differ between commands on one work directory, because they do not change what
# a training step computes.
FREE = (
    "data.cache_dir",
    "data.dir",
    "data.manual_dir",
    "eval_inference.",
    "masked_inference.",
    "metrics.",
    "task.",
    "tasks",
    "train.checkpoint_every",
    "train.log_every",
    "train.num_epochs",
    "train.num_steps",
    "train.sample_every",
)


def lock(workdir: pathlib.Path) -> TextIO:
    """Makes the work directory and keeps other runs from training in it.

    Returns:
        An open file that holds the lock until it is closed or the process ends, however it ends.

    Raises:
        UserError: another run is training there, or the work directory cannot be written.
    """
    with blaming(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"--workdir={workdir}: another run is training there; wait for it, or choose another"
            " --workdir (several processes of one run need --coordinator)"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        print(f"warning: {workdir} cannot be locked; do not start a second run there", flush=True)
    return file


def claim(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the work directory, or checks that it was made with this config.

    FREE settings may differ, and the new ones are written. Whoever calls this holds the `lock`,
    because a restart of the run reads what is written here.

    Raises:
        UserError: the folder was made with another config (the text names the differing keys), is
            not a work directory, or cannot be written.
    """
    path = workdir / "config.json"
    if path.exists():
        check(workdir, config)
    elif (workdir / "checkpoints").exists():
        raise UserError(f"--workdir={workdir} has checkpoints but no config.json; choose another")
    with blaming(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(plain(config), indent=2) + "\n")


def check(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Raises a UserError if the folder holds no run, or a run of another config."""
    difference = differences(read_config(workdir), plain(config))
    if difference:
        raise UserError(
            f"--workdir={workdir} was made with another config: {'; '.join(difference)};"
            " choose another --workdir, or use the config that made it"
        )


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """Reads config.json as nested dictionaries. Settings newer than the file have their defaults.

    Raises:
        UserError: the file is missing, is damaged, or is not a config of this package.
    """
    path = workdir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--workdir={workdir}: no run there (config.json is missing)") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or start again") from error
    if not (isinstance(config, dict) and {"data", "prior", "generator"} <= config.keys()):
        raise UserError(f"{path} is not the config of a run of this package")
    return upgraded(config, workdir)


def load_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Reads config.json as the locked config that was written (see `read_config`)."""
    return ml_collections.ConfigDict(_with_tuples(read_config(workdir))).lock()


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines `key: OLD there, NEW now`, one per key that must agree and does not."""
    old, new = flat(old), flat(new)
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)!r} there, {new.get(key, absent)!r} now"
        for key in sorted(old.keys() | new.keys())
        if not key.startswith(FREE) and old.get(key, absent) != new.get(key, absent)
    ]


@contextlib.contextmanager
def blaming(workdir: pathlib.Path) -> Iterator[None]:
    """Turns a full disk, or a folder that cannot be written, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be written ({error.strerror}): fix this or choose another"
        ) from error


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as it comes back from a JSON file: tuples are lists."""
    return as_json(config.to_dict())


def as_json(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree as it comes back from a JSON file: tuples are lists."""
    return json.loads(json.dumps(tree))


def upgraded(config: dict[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
    """Upgrades a config of an earlier version; settings that it lacks get their defaults.

    Args:
        config: the config as JSON has it.
        workdir: its work directory, for errors.

    Raises:
        UserError: the parameters of the config's model have another form in this version.
    """
    config = _with_tuples(config)
    config.pop("paper", None)  # Earlier versions kept the paper's figures among the settings.
    baseline = config.pop("baseline", {"name": ""})["name"]
    if baseline:
        raise UserError(
            f"--workdir={workdir} was made by a version in which {baseline} had other parameters;"
            " train it again in another --workdir"
        )
    return as_json(_completed(config))


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """Adds the settings that a config lacks; a part's defaults are those of its own module."""
    defaults = configuration.base().to_dict()
    for section in build.SECTIONS:
        name = config.get(section, {}).get("name")
        if name:
            defaults[section] = build.defaults(section, name)
    return _merged(defaults, config)


def _merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(defaults[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
    }
    return defaults | own | inner


def _with_tuples(value: Any) -> Any:
    """Turns JSON's lists back into the tuples that they were."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries: {"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
