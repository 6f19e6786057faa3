"""The grid's variants build for every config, combine, and have the values of the tables."""

import itertools
import json

import pytest

from lfbm_jax.costs.describe import describe
from lfbm_jax.errors import UserError
from lfbm_jax.inference import langevin
from lfbm_jax.runs import build, configuration, workdir
from tests.builders import CONFIGS, experiment

GRID = ("abp", "lebm", "lfbm_vae", "vae", "realnvp", "nice", "spline", "long_run", "persistent")
VARIANTS = (*GRID, "rae", "ae", "two_stage_vae", "ebm_vae", "meg", "bigan", "sri", "sri_l5")
VARIANTS += ("learned_start", "fce", "damc", "abp_then_flow", "vae_then_flow")
SAMPLERS = ("mala", "hmc", "nuts", "mclmc")
VARIANTS += SAMPLERS


@pytest.mark.parametrize("name", CONFIGS)
def test_every_variant_of_every_config_builds_and_shrinks(name):
    for variant in VARIANTS:
        for variants in (variant, f"{variant},smoke", f"smoke,{variant}"):
            config = experiment(name, variants)
            configuration.check(config)
            built = build.model(config)
            if "smoke" in variants:
                assert built.inference.flops() < 1e7
        assert experiment(name, f"{variant},smoke") == experiment(name, f"smoke,{variant}")


def test_table_1_has_nine_different_cells():
    cells = [
        experiment("digits", ",".join(filter(None, (prior, inference))))
        for prior in ("", "lebm", "abp")
        for inference in ("", "long_run", "inference=encoder")
    ]
    found = {(c.prior.name, c.inference.name, c.inference.get("num_steps")) for c in cells}
    assert len(found) == 9


# Sigma, learning rates of generator, prior and inference model, updates of prior and inference
# model per update of the generator, batch size; (steps, width) of the encoder's flow; n_i.
@pytest.mark.parametrize(
    ("name", "sigma", "rates", "updates", "batch", "flow", "width"),
    (
        ("svhn", 0.5, (8e-3, 6e-4, 4e-4), 1, 100, (20, 200), 10),
        ("cifar10", 0.25, (2e-3, 1.2e-3, 2e-4), 6, 100, (5, 256), 64),
        ("celeba64", 0.25, (2e-3, 1.5e-4, 1e-4), 6, 256, (5, 200), 64),
    ),
)
def test_tables_8_and_10(name, sigma, rates, updates, batch, flow, width):
    config = experiment(name, "lfbm_vae")
    assert (config.prior.name, config.inference.name) == ("glow", "iaf")
    assert config.model.sigma == sigma
    sections = ("generator", "prior", "inference")
    assert tuple(config.optimizer[s].learning_rate for s in sections) == rates
    assert {config.optimizer[s].decay_per_epoch for s in sections} == {0.99}
    assert config.train.prior_inference_updates == updates
    assert config.train.batch_size == batch
    assert (config.inference.flow_steps, config.inference.hidden_width) == flow
    assert config.inference.layers[0][0] == width
    assert config.eval_inference.to_dict() == config.inference.to_dict() | {"noise": False}
    # By Table 8, the heads get a 4 x 4 image.
    phi = describe(config, build.model(config))["inference"]["shapes"]
    last = config.inference.layers[-1][0]
    assert phi["encoder.Dense_0.kernel"] == [16 * last, 2 * config.model.latent_dim]


@pytest.mark.parametrize("name", ["svhn", "cifar10", "celeba64"])
def test_lebm_has_the_values_of_its_authors_code(name):
    """For CIFAR-10 and CelebA this choice is ours, as that code has no settings for them."""
    config = experiment(name, "lebm")
    assert config.prior.activation == ("gelu" if name == "celeba64" else "leaky_relu")
    assert (config.prior.num_steps, config.prior.step_size) == (60, 0.4)
    assert (config.prior.hidden_width, config.prior.num_layers) == (200, 3)
    assert config.optimizer.generator.learning_rate == 1e-4
    assert config.optimizer.prior.learning_rate == 2e-5
    assert config.model.sigma == 0.3
    assert (config.inference.num_steps, config.inference.step_size) == (20, 0.1)


def test_table_13():
    lebm = experiment("celebahq256", "lebm")
    assert describe(lebm, build.model(lebm))["prior"]["parameters"] == 1_131_001
    vae = experiment("celebahq256", "lfbm_vae")
    assert (vae.inference.flow_steps, vae.inference.hidden_width) == (5, 256)
    features = tuple(layer[0] for layer in vae.inference.layers)
    assert features == (128, 256, 256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("name", "paper_steps", "authors_steps"),
    [("svhn", 400, 8_000), ("cifar10", 800, 16_000), ("celeba64", 400, 8_000)],
)
def test_testing_steps_of_the_paper_and_of_the_authors_code(name, paper_steps, authors_steps):
    paper_config, authors = experiment(name), experiment(name, "lebm,authors_test_steps")
    assert paper_config.eval_inference.num_steps == paper_steps
    assert authors.eval_inference.num_steps == authors_steps
    assert authors.inference == experiment(name, "lebm").inference


def test_only_tested_experiments_have_the_authors_steps():
    with pytest.raises(UserError, match="config variant 'authors_test_steps'"):
        experiment("celebahq256", "authors_test_steps")
    with pytest.raises(UserError, match="'authors_test_steps': eval_inference=iaf has no chain"):
        experiment("svhn", "lfbm_vae,authors_test_steps")


def test_table_11_learns_and_synthesises_by_256():
    config = experiment("celeba64", "table11")
    assert config.train.batch_size == config.task.generate.batch_size == 256
    assert experiment("celeba64", "lebm,table11").task.generate.batch_size == 256


@pytest.mark.parametrize("name", ["svhn", "celeba64", "image_folder", "digits"])
def test_the_order_of_variants_does_not_matter(name):
    """Every pair gives the same config, or the same refusal, in either order."""

    def outcome(variants):
        try:
            return experiment(name, ",".join(variants))
        except UserError as error:
            return str(error)

    own = {"svhn": ["authors_test_steps"], "image_folder": ["size=128"],
           "celeba64": ["authors_test_steps", "table11", "square=20"]}  # fmt: skip
    parts = ["prior=energy", "inference=encoder", "eval_inference=langevin", "objective=rae"]
    every = [*VARIANTS, *parts, "mask=center_box:4", *own.get(name, [])]
    alone = {variant: experiment(name, variant) for variant in every}
    plain = experiment(name)
    for pair in itertools.combinations(every, 2):
        found = outcome(pair)
        assert found == outcome(pair[::-1]), pair
        # Neither is silently undone: the config changes if it is left out.
        for variant, rest in zip(pair, pair[::-1], strict=True):
            if not isinstance(found, str) and alone[variant] != plain:
                assert found != alone[rest] or pair in REDUNDANT, pair


# In these pairs, one variant includes the other.
REDUNDANT = {("abp", "vae"), ("rae", "ae"), ("rae", "objective=rae"), ("lebm", "prior=energy")}
REDUNDANT |= {("vae_then_flow", "inference=encoder"), ("abp_then_flow", "vae_then_flow")}
REDUNDANT |= {("vae", "inference=encoder"), ("two_stage_vae", "inference=encoder")}
REDUNDANT |= {("abp", "ebm_vae"), ("vae", "ebm_vae"), ("ebm_vae", "inference=encoder")}
REDUNDANT |= {("abp", "bigan"), ("vae", "bigan"), ("abp", "meg")}


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("long_run,vae", "'long_run': inference=encoder has no chain"),
        ("authors_test_steps,vae", "'authors_test_steps': eval_inference=encoder has no chain"),
        ("vae,lebm", "'lebm' and 'vae' both set prior.name: leave one of the two out"),
        ("nice,prior=energy", "'prior' and 'nice' both set prior.name"),
        ("square=20,mask=center_box:4", "both set data.mask"),
        ("torchvision,huggingface", "both set data.source"),
        ("mala,nuts", "'nuts': it replaces inference=sampler"),
        ("persistent,mala", "'mala': it replaces inference=persistent"),
        ("vae,hmc", "'hmc': it replaces inference=encoder"),
        ("mala,sri", "'mala': it replaces inference=sri"),
        ("learned_start,mala", "'mala': it replaces inference=learned_start"),
        ("inference=sampler,learned_start", "both set inference.name"),
        ("long_run,long_run", "'long_run' is given twice"),
        ("square=20,square=30", "'square' is given twice"),
    ],
)
def test_variants_that_exclude_each_other(variants, said):
    with pytest.raises(UserError, match=said):
        experiment("cifar10" if "torchvision" in variants else "celeba64", variants)


def test_variants_combine():
    config = experiment("svhn", "lebm,long_run")
    assert config.prior.name == "energy"
    assert config.inference.num_steps == 100
    assert experiment("svhn", "realnvp").prior.num_steps == 5
    assert experiment("digits", "nice").prior.hidden_width == 128
    assert experiment("digits", "spline").prior.to_dict() == {
        "name": "spline", "num_steps": 5, "hidden_width": 128, "num_bins": 8, "bound": 3.0,
    }  # fmt: skip
    chains = experiment("celebahq256", "long_run,persistent")
    assert (chains.inference.name, chains.inference.num_steps) == ("persistent", 300)
    assert not chains.data.horizontal_flip
    nuts = experiment("svhn", "nuts,long_run").inference
    assert (nuts.name, nuts.kernel, nuts.num_steps, nuts.step_size) == ("sampler", "nuts", 100, 0.1)
    encoders = [experiment("image_folder", v) for v in ("lfbm_vae,size=128", "size=128,lfbm_vae")]
    assert encoders[0] == encoders[1] and len(encoders[0].inference.layers) == 5


@pytest.mark.parametrize("variant", ["long_run", "persistent"])
def test_an_encoder_has_no_chain(variant):
    with pytest.raises(UserError, match=f"{variant}': inference=iaf has no chain"):
        experiment("svhn", f"lfbm_vae,{variant}")


@pytest.mark.parametrize(("variant", "rate"), (("learned_start", 1e-4), ("damc", 6 * 1e-4)))
def test_a_network_that_draws_starts_learns_at_the_published_rate(variant, rate):
    """That of six steps for DAMC, whose authors take six in each iteration."""
    rates = experiment("mnist", f"dense,{variant}").optimizer
    assert rates.inference.learning_rate == pytest.approx(rate)
    assert rates.generator.learning_rate == 1e-3


@pytest.mark.parametrize("prior", ("lebm", "abp"))
def test_recovery_with_another_prior_by_the_documented_command(prior):
    """Either order of variants gives the same config, and LEBM learns at its own rates."""
    config = experiment("celeba64", f"{prior},square=20")
    assert config == experiment("celeba64", f"square=20,{prior}")
    if prior == "lebm":
        rates = [config.optimizer[s].learning_rate for s in ("generator", "prior")]
        assert rates == [1e-4, 2e-5]


@pytest.mark.parametrize(("name", "steps"), (("svhn", 400), ("cifar10", 800), ("digits", 200)))
def test_incomplete_images_are_inferred_as_lfbm_evaluates(name, steps):
    chain = experiment(name).eval_inference
    assert chain.num_steps == steps
    for variants in ("", "vae", "lfbm_vae", "rae", "lebm"):
        assert experiment(name, variants).masked_inference == chain


@pytest.mark.parametrize(
    ("variant", "name"),
    (("vae", "encoder"), ("learned_start", "learned_start"), ("damc", "damc")),
)
def test_incomplete_images_need_a_chain_without_a_network(variant, name):
    config = experiment("digits", variant).unlock()
    config.masked_inference = config.eval_inference
    with pytest.raises(UserError, match=rf"^masked_inference\.name='{name}': .* use langevin"):
        build.model(config)


def test_a_run_older_than_masked_inference_loads_with_the_chain_it_had(tmp_path):
    old = workdir.plain(experiment("digits", "vae"))
    del old["masked_inference"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    chain = build.model(workdir.load_config(tmp_path)).masked_inference
    assert chain == langevin.Inference(8, num_steps=400, step_size=0.1, noise=False)
    workdir.claim(tmp_path, experiment("digits", "vae"))
