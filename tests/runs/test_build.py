"""Configs: switching parts by name, variants, and the messages for wrong values."""

import ml_collections
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.runs import build, configuration
from tests.builders import CONFIGS, experiment, small_config


def keys_of(tree, prefix=""):
    """Dotted names of all settings."""
    names = set()
    for name, value in tree.items():
        inner = isinstance(value, ml_collections.ConfigDict)
        names |= keys_of(value, f"{prefix}{name}.") if inner else {prefix + name}
    return names


every_config = pytest.mark.parametrize("name", CONFIGS)


def test_there_are_configs():
    """Without configs the tests below would test nothing."""
    assert {"svhn", "cifar10", "celeba64", "celebahq256", "mnist", "fashion_mnist"} <= set(CONFIGS)
    assert {"digits", "image_folder"} <= set(CONFIGS)


@every_config
def test_every_config_builds(name):
    config = experiment(name)
    configuration.check(config)
    assert config.is_locked
    built = build.model(config)
    side = config.data.image_size
    assert tuple(built.generator.image_shape) == (side, side, config.data.channels)
    assert built.inference.num_steps == config.inference.num_steps
    assert built.eval_inference.num_steps == config.eval_inference.num_steps


@every_config
def test_smoke_is_small_and_keeps_the_shapes(name):
    """`smoke` keeps what other code relies on: keys, image size, latent size, layer count."""
    full, smoke = experiment(name), experiment(name, "smoke")
    configuration.check(smoke)
    assert smoke.is_locked
    assert keys_of(smoke) == keys_of(full)
    for key in ("image_size", "channels", "horizontal_flip"):
        assert smoke.data[key] == full.data[key]
    assert smoke.model == full.model
    assert len(smoke.generator.layers) == len(full.generator.layers)
    assert smoke.train.num_steps == 2
    built = build.model(smoke)
    assert built.generator.image_shape == build.model(full).generator.image_shape
    assert built.generator.flops() <= 1e7


@every_config
def test_every_part_has_all_its_settings(name):
    """A setting can be overridden on the command line only if the config has it."""
    config = experiment(name)
    for section in build.SECTIONS:
        assert set(config[section]) == set(build.defaults(section, config[section].name))


@every_config
def test_evaluation_is_without_noise(name):
    assert experiment(name).inference.noise is True
    assert experiment(name).eval_inference.noise is False


# From the paper: Langevin steps in training and in testing, image size, d, n_g, learning rate.
@pytest.mark.parametrize(
    ("name", "steps", "eval_steps", "size", "latent_dim", "width", "rate"),
    (
        ("svhn", 20, 400, 32, 100, 64, 4e-4),
        ("cifar10", 40, 800, 32, 128, 128, 3.8e-4),
        ("celeba64", 20, 400, 64, 100, 128, 3e-4),
    ),
)
def test_table_9(name, steps, eval_steps, size, latent_dim, width, rate):
    config = experiment(name)
    assert (config.inference.num_steps, config.eval_inference.num_steps) == (steps, eval_steps)
    assert config.inference.step_size == config.eval_inference.step_size == 0.1
    assert (config.data.image_size, config.train.batch_size) == (size, 100)
    assert config.model.latent_dim == latent_dim
    assert config.model.sigma == 0.3
    assert config.generator.layers[0][0] == 8 * width
    for section in ("generator", "prior"):
        settings = config.optimizer[section]
        assert settings.learning_rate == rate
        assert (settings.b1, settings.b2, settings.decay_per_epoch) == (0.5, 0.999, 0.998)
    assert (config.prior.num_steps, config.prior.hidden_width) == (5, 64)


def test_names_list_the_modules_of_a_folder():
    assert {"gaussian", "glow"} <= set(build.names("priors"))
    assert "langevin" in build.names("inference")


def test_a_variant_switches_the_part_and_its_settings():
    config = experiment("svhn", "prior=gaussian")
    assert config.prior.to_dict() == {"name": "gaussian"}
    assert type(build.model(config).prior).__module__ == "lfbm_jax.priors.gaussian"
    back = experiment("svhn", "prior=glow")
    assert back.prior.to_dict() == build.defaults("prior", "glow")


def test_a_variant_of_one_experiment():
    for variants in ("size=128", "size=128,smoke"):
        assert experiment("image_folder", variants).data.image_size == 128


@pytest.mark.parametrize("size", (32, 64, 128, 256))
def test_image_folder_sizes_build(size):
    built = build.model(experiment("image_folder", f"size={size}"))
    assert built.generator.image_shape == (size, size, 3)


@pytest.mark.parametrize(
    ("name", "variants", "said"),
    (
        ("svhn", "smok", "did you mean 'smoke'"),
        ("svhn", "priors=glow", "did you mean 'prior'"),
        ("svhn", "prior=glov", "prior.name='glov': did you mean 'glow'"),
        ("svhn", "prior=zzz", "use one of .*gaussian, glow"),
        ("svhn", "inference=langvin", "did you mean 'langevin'"),
        ("svhn", "generator=conv_transpose", "generator.name='conv_transpose'.*convnet"),
        ("image_folder", "size=48", "size=48: use 32, 64, 128 or 256"),
    ),
)
def test_wrong_variants_say_what_is_meant(name, variants, said):
    with pytest.raises(UserError, match=said):
        experiment(name, variants)


def test_settings_of_another_module_name_the_variant():
    config = experiment("svhn")
    config.prior.name = "gaussian"
    with pytest.raises(UserError, match=r"^prior\.\w+: .*--config=FILE:prior=gaussian"):
        build.model(config)


def test_an_unknown_part_has_a_near_match():
    config = experiment("svhn")
    config.eval_inference.name = "langevine"
    said = "^eval_inference.name='langevine': did you mean 'langevin'"
    with pytest.raises(UserError, match=said):
        build.model(config)


def test_a_part_takes_of_the_context_what_it_names():
    config = small_config()
    built = build.part(config, "prior", latent_dim=7, image_shape=(1, 1, 1))
    assert built.latent_dim == 7 and built.num_steps == config.prior.num_steps


@pytest.mark.parametrize(
    ("key", "value"),
    (
        ("precision", "float3"),
        ("train.batch_size", 0),
        ("train.prior_inference_updates", 0),
        ("train.steps_per_call", 0),
        ("train.log_every", 0),
        ("train.sample_every", 0),
        ("train.checkpoint_every", -1),
        ("train.num_epochs", -1),
        ("train.num_steps", -1),
        ("optimizer.prior.learning_rate", 0.0),
        ("optimizer.prior.learning_rate", float("nan")),
        ("optimizer.generator.learning_rate", float("inf")),
        ("optimizer.inference.decay_per_epoch", -0.5),
        ("optimizer.generator.b1", 1.0),
        ("optimizer.generator.b2", -0.1),
        ("seed", -1),
        ("seed", 2**31),
        ("task.reconstruct.batch_size", 0),
        ("task.generate.num_images", 0),
    ),
)
def test_check_names_the_value_that_is_wrong(key, value):
    config = experiment("svhn")
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=rf"^{key}={value!r}: "):
        configuration.check(config)


def test_check_asks_for_a_length_of_training():
    config = experiment("digits")
    config.train.num_epochs = config.train.num_steps = 0
    with pytest.raises(UserError, match=r"^train\.num_steps=0: must be .*, or train\.num_epochs"):
        configuration.check(config)


def test_check_names_a_task_that_is_not_there():
    config = experiment("svhn", "")
    config.tasks = ("generate", "reconstrct")
    with pytest.raises(UserError, match="tasks='reconstrct': did you mean 'reconstruct'"):
        configuration.check(config)


def test_chains_that_accept_by_log_p_z_need_the_one_whose_slope_they_follow():
    build.model(experiment("digits", "prior=diffusion"))
    for section, name in (
        ("inference", "sampler"), ("eval_inference", "sampler"), ("inference", "sri")
    ):  # fmt: skip
        said = rf"^{section}\.name='{name}': needs a prior .* prior\.name='diffusion' has another"
        config = experiment("digits", "prior=diffusion").copy_and_resolve_references().unlock()
        config[section] = build.defaults(section, name)
        with pytest.raises(UserError, match=said):
            build.model(config)


@pytest.mark.parametrize("section", ("eval_inference", "masked_inference"))
def test_evaluation_by_a_method_that_nothing_teaches_is_refused(section):
    """The step size of SRI is found in training by SRI alone."""
    config = small_config()
    config[section] = build.defaults(section, "sri")
    said = rf"^{section}\.name='sri': its parameters differ .* inference\.name='langevin' trains"
    with pytest.raises(UserError, match=said):
        build.model(config)
    config.inference = build.defaults("inference", "sri")
    build.model(config)


def test_persistent_chains_do_not_go_with_a_prior_that_is_fitted_to_new_ones():
    build.model(experiment("digits", "abp_then_flow"))
    said = r"^inference\.name='persistent': prior\.name='fitted_glow' is fitted to z"
    with pytest.raises(UserError, match=said):
        build.model(experiment("digits", "abp_then_flow,persistent"))


def test_every_config_has_every_key_of_the_base():
    for name in CONFIGS:
        assert keys_of(experiment(name)) == keys_of(configuration.base()), name


def test_configs_do_not_share_state():
    changed = experiment("svhn")
    changed.train.batch_size = 7
    changed.generator.layers = ()
    assert experiment("svhn").train.batch_size == 100
    assert np.shape(experiment("svhn").generator.layers) == (4, 4)
