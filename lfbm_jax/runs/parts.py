"""Finds the exchangeable parts by name: a prior is a module of `lfbm_jax.priors`, and so on.

A part is a dataclass. Its fields without a default are what the builder gives it (the latent
dimension, say); its fields with a default are its settings, which a config section of the same
name may change. Adding a part is adding one module: nothing here lists them.
"""

import dataclasses
import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import ml_collections

from lfbm_jax.errors import UserError

# Config section -> package and class. Two sections may hold parts of one kind.
SECTIONS = {
    "prior": ("priors", "Prior"),
    "generator": ("generators", "Generator"),
    "inference": ("inference", "Inference"),
    "eval_inference": ("inference", "Inference"),
    "masked_inference": ("inference", "Inference"),
    "baseline": ("baselines", "Baseline"),
}
# Those that every model has.
OF_MODEL = ("prior", "generator", "inference", "eval_inference", "masked_inference")


def names(package: str) -> list[str]:
    """The modules of `lfbm_jax.<package>`, without helpers that are no part themselves."""
    folder = importlib.import_module(f"lfbm_jax.{package}").__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder))


def find(package: str, name: str, field: str) -> ModuleType:
    """The module `lfbm_jax.<package>.<name>`; UserError naming `field` where there is none."""
    known = names(package)
    if name not in known:
        raise UserError(f"{field}={name!r}: {did_you_mean(name, known)}")
    return importlib.import_module(f"lfbm_jax.{package}.{name}")


def defaults(section: str, name: str) -> dict[str, Any]:
    """The settings of a part with their default values, its name first."""
    return {"name": name} | {
        field.name: field.default
        for field in dataclasses.fields(_part_class(section, name))
        if field.default is not dataclasses.MISSING
    }


def task_settings(which: str) -> dict[str, dict[str, Any]]:
    """Every task's default settings ("SETTINGS"), or those of a smoke run ("SMOKE")."""
    return {
        name: dict(getattr(find("tasks", name, "tasks"), which)) for name in names("tasks")
    }


def build(config: ml_collections.ConfigDict, section: str, **context: Any) -> Any:
    """The part that a config section describes.

    Args:
        config: a whole config.
        section: "prior", "generator", ...: where its name and settings stand.
        **context: what the builder gives; a part takes of it what its fields name.
    """
    settings = config[section].to_dict()
    name = settings.pop("name")
    part_class = _part_class(section, name)
    known = defaults(section, name)
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise UserError(
            f"{section}.{unknown[0]}: {section}.name={name!r} has no such setting;"
            f" to switch the part and its settings together use --config=FILE:{section}={name}"
        )
    fields = {field.name for field in dataclasses.fields(part_class)}
    return part_class(**{k: v for k, v in context.items() if k in fields}, **settings)


def check_at_least_one(part: Any, section: str, *fields: str) -> None:
    """UserError naming the first of a part's settings that is below 1."""
    for field in fields:
        if getattr(part, field) < 1:
            raise UserError(f"{section}.{field}={getattr(part, field)}: must be at least 1")


def did_you_mean(word: str, known: list[str]) -> str:
    """The near match of a misspelt word, or all words that would do."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(known)


def _part_class(section: str, name: str) -> type:
    package, class_name = SECTIONS[section]
    module = find(package, name, f"{section}.name")
    if not hasattr(module, class_name):
        known = [n for n in names(package) if hasattr(find(package, n, ""), class_name)]
        raise UserError(f"{section}.name={name!r}: {did_you_mean(name, known)}")
    return getattr(module, class_name)
