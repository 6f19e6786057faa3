"""From a config to its model: the only place that finds exchangeable parts, by their names.

A prior is a module of `lfbm_jax.priors`, and so on; adding a part is adding one module, for nothing
here lists them. A part is a dataclass. Its fields without a default are what the builder gives it
(the latent dimension, say); its fields with a default are its settings, which a config section of
the same name may change.
"""

import dataclasses
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.model import Model
from lfbm_jax.tasks.base import Task, of_module

# Config section -> folder and class. Two sections may hold parts of one kind.
SECTIONS = {
    "prior": ("priors", "Prior"),
    "generator": ("generators", "Generator"),
    "inference": ("inference", "Inference"),
    "eval_inference": ("inference", "Inference"),
    "masked_inference": ("inference", "Inference"),
    "objective": ("objectives", "Objective"),
}


def model(config: ml_collections.ConfigDict) -> Model:
    """The model of a config; raises UserError where the config does not describe one."""
    if not config.model.sigma > 0:
        raise UserError(f"model.sigma={config.model.sigma}: must be positive")
    if config.model.latent_dim < 1:
        raise UserError(f"model.latent_dim={config.model.latent_dim}: must be at least 1")
    side = config.data.image_size
    context = {
        "latent_dim": config.model.latent_dim,
        "image_shape": (side, side, config.data.channels),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else None,
    }
    prior = part(config, "prior", **context)
    seen = context | {"latent_dim": prior.generator_dim}
    built = Model(
        prior=prior,
        generator=part(config, "generator", **seen),
        inference=part(config, "inference", **context),
        eval_inference=part(config, "eval_inference", **context),
        masked_inference=part(config, "masked_inference", **context),
        objective=part(config, "objective"),
        sigma=float(config.model.sigma),
        learned_sigma=config.model.learned_sigma,
    )
    built.objective.check(built)
    _check_evaluation(built)
    if not built.masked_inference.takes_masks:
        raise UserError(
            f"masked_inference.name={config.masked_inference.name!r}: cannot infer from part of an"
            " image; use langevin"
        )
    if built.inference.keeps_chains and config.data.horizontal_flip:
        raise UserError(
            "data.horizontal_flip=True: persistent chains belong to one image, not to its mirror"
            " image too; set it to False"
        )
    return built


def part(config: ml_collections.ConfigDict, section: str, **context: Any) -> Any:
    """The part that a config section describes.

    Args:
        config: a whole config.
        section: "prior", "generator", ...: where its name and settings stand.
        **context: what the builder gives; a part takes of it what its fields name.
    """
    settings = config[section].to_dict()
    name = settings.pop("name")
    known = defaults(section, name)
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise UserError(
            f"{section}.{unknown[0]}: {section}.name={name!r} has no such setting;"
            f" to switch the part and its settings together use --config=FILE:{section}={name}"
        )
    found = part_class(section, name)
    fields = {field.name for field in dataclasses.fields(found)}
    return found(**{k: v for k, v in context.items() if k in fields}, **settings)


def defaults(section: str, name: str) -> dict[str, Any]:
    """The settings of a part with their default values, its name first."""
    return {"name": name} | {
        field.name: field.default
        for field in dataclasses.fields(part_class(section, name))
        if field.default is not dataclasses.MISSING
    }


def part_class(section: str, name: str) -> type:
    """The class of the part that `section.name` names; UserError where there is none."""
    folder, class_name = SECTIONS[section]
    return vars(find(folder, name, f"{section}.name"))[class_name]


def find(folder: str, name: str, field: str) -> ModuleType:
    """The module `lfbm_jax.<folder>.<name>`; UserError naming `field` where there is none."""
    known = names(folder)
    if name not in known:
        raise UserError(f"{field}={name!r}: {did_you_mean(name, known)}")
    return importlib.import_module(f"lfbm_jax.{folder}.{name}")


def names(folder: str) -> list[str]:
    """The parts of a folder: all its modules but `base`, which states their contract."""
    path = importlib.import_module(f"lfbm_jax.{folder}").__path__
    return sorted({module.name for module in pkgutil.iter_modules(path)} - {"base"})


def task(name: str) -> Task:
    """The task of that name; UserError where there is none."""
    return of_module(vars(find("tasks", name, "tasks")))


def _check_evaluation(built: Model) -> None:
    """UserError where evaluation's inference network could not use the trained parameters."""
    trained, used = (
        jax.eval_shape(inference.init, jax.random.key(0))
        for inference in (built.inference, built.eval_inference)
    )
    if jax.tree.leaves(used) and used != trained:
        raise UserError(
            "eval_inference: its network differs from that of inference, whose parameters it gets;"
            " give both the same name and layers, or evaluate with eval_inference=langevin"
        )
