"""Small configs, parameters and models that several tests share."""

import importlib
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.runs import build, configuration

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def experiment(name, variants=""):
    """The config of configs/<name>.py."""
    return importlib.import_module(f"configs.{name}").get_config(variants)


# An encoder's layers for the images of `small_config`; such lists have no default.
ENCODER_LAYERS = ((4, 4, 2, 1),)


def small_config():
    """A config for 8 x 8 grey images that the default modules can be built from; not locked."""
    config = configuration.base()
    config.data.update({"image_size": 8, "channels": 1})
    config.model.update({"latent_dim": 5, "sigma": 0.5})
    config.prior.update({"num_steps": 3, "hidden_width": 6})
    config.generator.layers = ((3, 2, 1, 0), (4, 4, 2, 1), (1, 4, 2, 1))
    config.inference.num_steps = 3
    config.eval_inference.num_steps = 3
    return config


def perturbed(tree, seed=0, scale=0.2):
    """The same tree with noise on every entry, so that nothing stays at an initial zero."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf + scale * random.normal(size=leaf.shape), leaf.dtype), tree
    )


def invented(init, seed=0, scale=0.2):
    """Made-up parameters of the shapes that `init(key)` gives, without compiling it.

    Square matrices are a rotation with noise, so that they can be inverted; the rest is noise.
    """
    random = np.random.default_rng(seed)

    def invent(leaf):
        values = scale * random.normal(size=leaf.shape)
        if leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]:
            values += np.linalg.qr(random.normal(size=leaf.shape))[0]
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map(invent, jax.eval_shape(init, jax.random.key(0)))


def modules(section):
    """The names of the modules that hold a part: all modules in the folder but `base`."""
    return build.names(build.SECTIONS[section][0])


# The settings of a flow's size, which other priors have too.
SIZES = ("num_steps", "hidden_width")


def build_part(section, name, latent_dim=5):
    """Builds the part called `name` in a small model."""
    if section == "objective":
        return model_with_objective(name).objective
    config = small_config()
    config.model.latent_dim = latent_dim
    if config[section].name != name:
        small = config[section].to_dict()
        config[section] = build.defaults(section, name)
        if section == "prior":  # Made-up weights of a wide network overflow.
            config[section].update({key: small[key] for key in SIZES if key in config[section]})
        if section == "inference" and "layers" in config[section]:
            config[section].layers = ENCODER_LAYERS
    return vars(build.model(config))[section]


def config_with_objective(name):
    """A small config with an objective and the first prior and inference that it accepts."""
    chain = small_config().inference.to_dict()
    encoder = build.defaults("inference", "encoder") | {"layers": ENCODER_LAYERS}
    priors = small_config().prior.to_dict(), build.defaults("prior", "gaussian")
    methods = chain, encoder, encoder | {"noise": False}
    for prior, inference in itertools.product(priors, methods):
        config = small_config()
        config.prior, config.inference = prior, inference
        settings = build.defaults("objective", name)
        config.objective = build.part_class("objective", name).smoke_settings(settings)
        try:
            build.model(config)
        except UserError as error:
            refusal = error
        else:
            return config
    raise refusal


def model_with_objective(name):
    """The model of `config_with_objective`."""
    return build.model(config_with_objective(name))


SECTIONS = ("prior", "generator", "inference", "objective")
EVERY_PART = [(section, name) for section in SECTIONS for name in modules(section)]
