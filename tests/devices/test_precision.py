"""The precision of products, read off the programs that accelerators would run, and its effect."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax import learning
from lfbm_jax.model import Example
from lfbm_jax.runs import build, cli
from lfbm_jax.trained.interpolation import between
from lfbm_jax.trained.programs import Programs
from tests.builders import (
    ENCODER_LAYERS,
    config_with_objective,
    experiment,
    invented,
    modules,
    small_config,
)

STEPS, CHAINS = 20, 32


def chains(precision):
    """The final z of noisy chains of 20 steps, [CHAINS, d], and their log-densities."""
    config = small_config()
    config.precision = precision
    config.generator.layers = ((32, 2, 1, 0), (16, 4, 2, 1), (1, 4, 2, 1))
    config.inference.num_steps = STEPS
    built = build.model(config)
    parameters = invented(built.init, scale=0.2)
    images = np.random.default_rng(0).uniform(-1, 1, (CHAINS, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def infer(parameters, keys, images):
        prepared = built.prepare(parameters)

        def one(key, x):
            example = Example(x, jnp.zeros((), int), jnp.ones(()))
            z = built.inference.infer({}, key, example, built.log_joint(prepared, x)).z
            return z, built.log_p_x_given_z(prepared, x, z)

        return jax.vmap(one)(keys, images)

    return jax.device_get(infer(parameters, jax.random.split(jax.random.key(0), CHAINS), images))


def test_a_bfloat16_chain_stays_close_to_the_float32_one():
    exact, rounded = chains("float32"), chains("bfloat16")
    assert rounded[0].dtype == rounded[1].dtype == np.float32
    distance = np.linalg.norm(rounded[0] - exact[0], axis=1) / np.linalg.norm(exact[0], axis=1)
    # Measured: 0.008 in the median and 0.018 at most; half of bfloat16's last digit is 0.002.
    assert 0 < np.median(distance) < 0.015
    assert distance.max() < 0.03
    assert np.median(np.abs(rounded[1] / exact[1] - 1)) < 0.01


ACCELERATORS = ("cuda", "tpu")
# What `precision` means for a product of the generator or the inference network.
NETWORKS = {"float32": "HIGHEST", "tensorfloat32": "HIGH", "bfloat16": "DEFAULT"}
# Where the code of a product is, by the frames that it was traced in. Interpolation of latent
# vectors and spectral norms count as the prior's; so do products without frames, of JAX's own rules
# for derivatives.
OF_PRIOR = re.compile(r"/priors/|/layers/(flows|spectral_norm)\.py|/interpolation\.py")
OF_NETWORK = re.compile(
    r"/generators/|/layers/(conv|image_and_vector)|/inference/(damc|encoder|iaf)\.py"
)
PRODUCTS = ("stablehlo.dot_general", "stablehlo.convolution")


def products(function, *arguments):
    """{"prior" or "network": the precisions of its products} in the programs of accelerators.

    A product of neither fails the test, since someone must decide where it belongs.
    """
    traced = jax.jit(function).trace(*arguments)
    found = {"prior": set(), "network": set()}

    def visit(operation):
        if operation.name in PRODUCTS:
            place = str(operation.location)
            of_network = OF_NETWORK.search(place)
            of_prior = OF_PRIOR.search(place) or ".py" not in place
            assert bool(of_prior) != bool(of_network), place
            named = re.findall(r"precision (\w+)>", str(operation.attributes["precision_config"]))
            assert len(named) == 2, operation
            found["prior" if of_prior else "network"].update(named)
        for region in operation.regions:
            for block in region.blocks:
                for inner in block.operations:
                    visit(inner.operation)

    for platform in ACCELERATORS:
        lowered = traced.lower(lowering_platforms=(platform,))
        visit(lowered.compiler_ir("stablehlo").operation)
    return found


def config_with(section, name, precision):
    config = config_with_objective(name) if section == "objective" else small_config()
    config.precision = precision
    if config[section].name != name:
        config[section] = build.defaults(section, name)
        if "layers" in config[section]:
            config[section].layers = ENCODER_LAYERS
    if name == "layered":
        config.prior.num_layers = 5
    config.train.update({"batch_size": 2, "prior_inference_updates": 2})
    return config


def update_of(config):
    """The compiled update and the shapes of its arguments."""
    built = build.model(config)
    side, channels = config.data.image_size, config.data.channels
    state = jax.eval_shape(functools.partial(learning.init_state, config, built, 4))
    image = np.zeros((1, 1, 2, side, side, channels), np.uint8)
    examples = Example(image, np.zeros((1, 1, 2), np.int32), np.ones((1, 1, 2), np.float32))
    return learning.make_update(config, built, 10), state, examples, np.int32(1)


@pytest.mark.parametrize(
    ("section", "name"),
    [(kind, name) for kind in ("prior", "inference", "objective") for name in modules(kind)],
)
def test_an_update_multiplies_by_the_setting_in_networks_alone(section, name):
    """Values and gradients, through `make_update`, as in training."""
    found = products(*update_of(config_with(section, name, "tensorfloat32")))
    # These have no products in the update.
    without = name in ("gaussian", "second_stage", "rae")
    assert found == {"network": {"HIGH"}, "prior": set() if without else {"HIGHEST"}}


@pytest.mark.parametrize("precision", NETWORKS)
def test_each_setting(precision):
    found = products(*update_of(config_with("prior", "glow", precision)))
    assert found == {"prior": {"HIGHEST"}, "network": {NETWORKS[precision]}}


@pytest.mark.parametrize("name", modules("prior"))
def test_evaluation_multiplies_likewise(name):
    config = config_with("prior", name, "tensorfloat32")  # "bfloat16" is JAX's own default.
    built = build.model(config)
    programs = Programs(config, built)
    parameters = jax.eval_shape(built.init, jax.random.key(0))
    z, index = np.zeros((1, 2, 5), np.float32), np.zeros((1, 2), np.int32)
    image, one = np.zeros((1, 2, 8, 8, 1), np.uint8), np.ones((1, 2), np.float32)
    seed, chain = np.int32(0), np.int32(0)
    for program, arguments in (
        (programs.sample, (seed, parameters, index)),
        (programs.infer, (seed, chain, parameters, Example(image, index, one))),
        (programs.log_prior, (parameters, z)),
        (programs.interpolate, (parameters, (z, z, one))),
    ):
        found = products(program, *arguments)
        assert found["network"] <= {"HIGH"} and found["prior"] <= {"HIGHEST"}


@pytest.mark.parametrize(
    "name", modules("prior")
)
def test_a_prior_is_exact_whatever_surrounds_it(name):
    """The gradient is taken outside the prior's methods, where another precision is set."""
    prior = build.model(config_with("prior", name, "float32")).prior
    alpha = invented(prior.init)

    def everything(alpha, z):
        with jax.default_matmul_precision("bfloat16"):
            key = jax.random.key(0)
            total = lambda alpha, z: (  # noqa: E731
                prior.loss(prior.prepare(alpha), key, z) + prior.log_prob(prior.prepare(alpha), z)
            )
            there = prior.forward(prior.prepare(alpha), prior.inverse(prior.prepare(alpha), z))
            return jax.grad(total, (0, 1))(alpha, z), there, prior.sample(prior.prepare(alpha), key)

    found = products(everything, alpha, np.ones(5, np.float32))
    assert found == {"network": set(), "prior": set() if name == "gaussian" else {"HIGHEST"}}


def test_commands_and_interpolation_multiply_in_full_float32():
    """Metrics and everything else outside networks: every command calls `set_precision`."""
    vectors = np.ones((2, 5), np.float32)
    way = jax.jit(lambda a, b: between(a, b, 0.5)).trace(*vectors)
    with jax.default_matmul_precision("bfloat16"):
        text = way.lower(lowering_platforms=("cuda",)).as_text()
        assert "HIGHEST" in text and "DEFAULT" not in text
    before = jax.config.jax_default_matmul_precision
    try:
        cli.set_precision()
        traced = jax.jit(jnp.dot).trace(vectors, vectors.T)
        assert "HIGHEST" in traced.lower(lowering_platforms=("tpu",)).as_text()
    finally:
        jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize("name", ("svhn", "cifar10", "celeba64", "celebahq256"))
def test_the_papers_experiments_run_as_their_authors_did(name):
    assert experiment(name).precision == "tensorfloat32"
