"""Builds the model that a config describes. Only this module looks up parts by name.

A prior is a module of `lfbm_jax.priors`, and likewise for the other kinds. Adding a part means
adding one module, because no list of parts is kept here. A part is a dataclass. The builder fills
its fields without a default (the latent dimension, for example). Its fields with a default are its
settings, which the config section of the part may change.
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

# Config section -> folder and class. Several sections may hold parts of one kind.
SECTIONS = {
    "prior": ("priors", "Prior"),
    "generator": ("generators", "Generator"),
    "inference": ("inference", "Inference"),
    "eval_inference": ("inference", "Inference"),
    "masked_inference": ("inference", "Inference"),
    "objective": ("objectives", "Objective"),
}


def model(config: ml_collections.ConfigDict) -> Model:
    """Builds the model of a config; raises UserError if the config does not describe one."""
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
    masked_inference = part(config, "masked_inference", **context)
    seen = context | {"latent_dim": prior.generator_dim}
    built = Model(
        prior=prior,
        generator=part(config, "generator", **seen),
        inference=part(config, "inference", **context),
        eval_inference=part(config, "eval_inference", **context),
        masked_inference=masked_inference,
        objective=part(config, "objective", **context),
        sigma=float(config.model.sigma),
        learned_sigma=config.model.learned_sigma,
    )
    built.objective.check(built)
    for section in ("inference", "eval_inference", "masked_inference"):
        if vars(built)[section].needs_potential and not prior.has_potential:
            raise UserError(
                f"{section}.name={config[section].name!r}: needs a prior whose gradient is the"
                f" slope of its log p(z), and prior.name={config.prior.name!r} has another;"
                " use langevin"
            )
    if not masked_inference.takes_masks:
        raise UserError(
            f"masked_inference.name={config.masked_inference.name!r}: cannot infer from part of an"
            " image; use langevin"
        )
    _check_evaluation(config, built)
    if built.inference.keeps_chains and config.data.horizontal_flip:
        raise UserError(
            "data.horizontal_flip=True: a persistent chain belongs to an image, not to its mirror"
            " image; set it to False"
        )
    if built.inference.keeps_chains and prior.fitted_afterwards:
        raise UserError(
            f"inference.name={config.inference.name!r}: prior.name={config.prior.name!r} is fitted"
            " to z of newly started chains, which differ from the persistent ones that trained the"
            " generator; use inference=langevin or another prior"
        )
    return built


def part(config: ml_collections.ConfigDict, section: str, **context: Any) -> Any:
    """Builds the part that a config section describes.

    Args:
        config: a whole config.
        section: the section with the part's name and settings, such as "prior".
        **context: values from the builder; a part takes those that its fields name.
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
    """A dictionary of the part's "name", then its settings with their default values."""
    return {"name": name} | {
        field.name: field.default
        for field in dataclasses.fields(part_class(section, name))
        if field.default is not dataclasses.MISSING
    }


def part_class(section: str, name: str) -> type:
    """The class of the part that `section.name` names; raises UserError if there is none."""
    folder, class_name = SECTIONS[section]
    return vars(find(folder, name, f"{section}.name"))[class_name]


def find(folder: str, name: str, field: str) -> ModuleType:
    """Imports `lfbm_jax.<folder>.<name>`; raises UserError naming `field` if there is none."""
    known = names(folder)
    if name not in known:
        raise UserError(f"{field}={name!r}: {did_you_mean(name, known)}")
    return importlib.import_module(f"lfbm_jax.{folder}.{name}")


def names(folder: str) -> list[str]:
    """The names of the parts in a folder: all modules but `base`, which states their contract."""
    path = importlib.import_module(f"lfbm_jax.{folder}").__path__
    return sorted({module.name for module in pkgutil.iter_modules(path)} - {"base"})


def task(name: str) -> Task:
    """The task called `name`; raises UserError if there is none."""
    return of_module(vars(find("tasks", name, "tasks")))


def _check_evaluation(config: ml_collections.ConfigDict, built: Model) -> None:
    """Raises UserError if a method used in evaluation cannot use the trained parameters."""
    trained = jax.eval_shape(built.inference.init, jax.random.key(0))
    for section in ("eval_inference", "masked_inference"):
        used = jax.eval_shape(vars(built)[section].init, jax.random.key(0))
        if jax.tree.leaves(used) and used != trained:
            raise UserError(
                f"{section}.name={config[section].name!r}: its parameters differ from those that"
                f" inference.name={config.inference.name!r} trains; give both the same name and"
                f" layers, or evaluate with {section}=langevin"
            )
