"""What parts, tasks and data sources offer: what their contract names, all of it, and no more."""

import dataclasses
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.data import sources
from lfbm_jax.model import Example
from lfbm_jax.runs import build
from tests.builders import ENCODER_LAYERS, EVERY_PART, build_part, modules, small_config


def test_the_known_modules_are_found():
    """Without modules the tests below would test nothing."""
    assert {"gaussian", "glow", "mixture", "second_stage", "layered"} <= set(modules("prior"))
    assert "convnet" in modules("generator")
    assert {"langevin", "encoder", "sri"} <= set(modules("inference"))
    assert {"variational", "rae"} <= set(modules("objective"))


@pytest.mark.parametrize(("section", "name"), EVERY_PART)
def test_a_part_offers_what_its_contract_names_and_nothing_else(section, name):
    """A misspelt capability would be one more public name, which nothing reads."""
    folder, class_name = build.SECTIONS[section]
    contract = vars(importlib.import_module(f"lfbm_jax.{folder}.base"))[class_name]
    part = build.part_class(section, name)
    assert issubclass(part, contract) and dataclasses.is_dataclass(part)
    own = {member for member in dir(part) if not member.startswith("_")}
    settings = {field.name for field in dataclasses.fields(part)}
    extra = own - set(dir(contract)) - settings
    assert extra <= BEYOND_THE_CONTRACT.get((section, name), set())


# Public names of parts that are not in their contract, because their own tests need them.
BEYOND_THE_CONTRACT = {
    ("inference", "encoder"): {"moments"},
    ("inference", "iaf"): {"moments", "step", "autoregressive"},
    ("inference", "sri"): {"bound"},
}


@pytest.mark.parametrize(("section", "name"), EVERY_PART)
def test_a_part_is_a_value(section, name):
    """Two parts with equal settings are equal, so they share an entry in a compilation cache."""
    one, other = build_part(section, name), build_part(section, name)
    assert one == other and hash(one) == hash(other)


@pytest.mark.parametrize(("section", "name"), EVERY_PART)
def test_smoke_settings_are_settings(section, name):
    settings = build.defaults(section, name)
    if "layers" in settings:
        settings["layers"] = ((512, 4, 2, 1), (1, 4, 2, 1))
    smoke = build.part_class(section, name).smoke_settings(settings)
    assert smoke.keys() == settings.keys()


# Every public method of every part is called below. A new method fails until its arguments are
# added here. Its results need a test of their own.

ON_THE_HOST = {"fit", "is_fitted", "unfitted", "smoke_settings", "reference_counts", "flops"}
ON_THE_HOST |= {"tuner"}
GROUPS = {"prior": "alpha", "generator": "beta", "inference": "phi"}


def public(part):
    """The names of the public methods and properties of a part, without its settings and flags."""
    fields = {field.name for field in dataclasses.fields(part)}
    flags = (bool, int)
    return {
        name
        for name in dir(type(part))
        if not name.startswith("_")
        and name not in fields
        and not isinstance(getattr(type(part), name), flags)
    }


def call_everything(model, kind, settings):
    """Calls all public members of a model's part; returns {name: result}."""
    part, key = vars(model)[kind], jax.random.key(0)
    parameters = jax.jit(model.init)(key)
    prepared = jax.jit(model.prepare)(parameters)
    (dim,) = jax.eval_shape(model.prior.sample, prepared.alpha, key).shape
    z, image = jnp.linspace(-1, 1, dim), jnp.zeros(model.generator.image_shape)
    example = Example(image, jnp.zeros((), int), jnp.ones(()))
    examples = jax.tree.map(lambda leaf: leaf[None], example)
    several = np.random.default_rng(0).normal(size=(40, dim)).astype(np.float32)
    log_joint = model.log_joint(prepared, image)
    flow = jax.tree.map(lambda leaf: leaf[0], (parameters.phi or {}).get("flow", {}))
    group, raw = (tree._asdict()[GROUPS[kind]] for tree in (prepared, parameters))
    arguments = {
        "init": (key,),
        "prepare": (raw,),
        "log_prob": (group, z),
        "sample": (group, key),
        "loss": (group, key, z),
        "forward": (group, z),
        "inverse": (group, z),
        "fit": (raw, lambda epoch: several, 0),
        "is_fitted": (raw,),
        "unfitted": (raw,),
        "generator_dim": None,
        "is_deterministic_network": None,
        "smoke_settings": (settings,),
        "reference_counts": (),
        "apply": (group, z),
        "flops": (),
        "image_shape": None,
        "infer": (group, key, example, log_joint),
        "moments": (group, image),
        "step": (flow, z),
        "autoregressive": (flow, z),
        "bound": (0.1, key, log_joint),
        "tuner": (model,),
    }
    unfitted = kind == "prior" and not part.fitted_afterwards
    methods = public(part) - ({"fit"} if unfitted else set())
    unknown = methods - arguments.keys()
    assert not unknown, f"{type(part).__module__}: no contract test calls {unknown}"

    def call(names):
        values = {name: getattr(part, name) for name in names}
        return {
            name: value if arguments[name] is None else value(*arguments[name])
            for name, value in values.items()
        }

    found = call(methods & ON_THE_HOST) | jax.jit(lambda: call(methods - ON_THE_HOST))()
    if found.get("tuner"):
        found["tuner"] = found["tuner"](parameters, examples)
    for name in found.keys() - {"smoke_settings"}:
        for leaf in jax.tree.leaves(found[name]):
            assert np.isfinite(leaf).all(), name
    return found


@pytest.mark.parametrize(("section", "name"), EVERY_PART)
def test_every_public_method_of_a_part_is_called(section, name):
    if section == "objective":
        pytest.skip("all of it is called by test_objective")
    config = small_config()
    if config[section].name != name:
        config[section] = build.defaults(section, name)
        if section == "inference" and "layers" in config[section]:
            config[section].layers = ENCODER_LAYERS
    assert "init" in call_everything(build.model(config), section, config[section].to_dict())


def public_functions(module):
    return {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


@pytest.mark.parametrize("name", build.names("tasks"))
def test_a_task_offers_what_its_contract_names_and_nothing_else(name):
    """A misspelt `monitor` would be one more public function, which nothing calls."""
    module = build.find("tasks", name, "tasks")
    assert {"run"} <= public_functions(module) <= {"run", "check", "check_data", "monitor"}
    task = build.task(name)
    assert task.smoke.keys() <= task.settings.keys()
    for function, expected in {"run": 4, "check": 1, "check_data": 2, "monitor": 3}.items():
        assert len(inspect.signature(task._asdict()[function]).parameters) == expected


@pytest.mark.parametrize("name", sources())
def test_a_data_source_has_one_door(name):
    module = importlib.import_module(f"lfbm_jax.data.{name}")
    assert list(inspect.signature(module.prepare).parameters) == ["data"]
