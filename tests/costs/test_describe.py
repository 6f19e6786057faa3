"""Counts and operations of the paper's experiments, against numbers worked out by hand."""

import ast
import json

import pytest

from lfbm_jax.costs.describe import describe, parameter_table
from lfbm_jax.runs import build
from tests.builders import experiment


def described(name, variants=""):
    config = experiment(name, variants)
    return describe(config, build.model(config))


def test_counts_at_256():
    """The paper's counts; the flow's includes two dead biases of 128 in each of its 10 steps."""
    found = described("celebahq256")
    assert found["generator"]["parameters"] == 49_817_731
    assert found["prior"]["parameters"] == 583_680
    assert found["prior"]["parameters_with_unused_biases"] == 586_240
    assert found["inference"]["parameters"] == 0


# Products of one transposed convolution: its input's pixels times channels in, kernel area and
# channels out.
SVHN = (100 * 16 * 512, 16 * 512 * 16 * 256, 64 * 256 * 16 * 128, 256 * 128 * 16 * 3)
CELEBA = (
    100 * 16 * 1024,
    16 * 1024 * 16 * 512,
    64 * 512 * 16 * 256,
    256 * 256 * 16 * 128,
    1024 * 128 * 16 * 3,
)
CIFAR10 = (128 * 64 * 1024, 64 * 1024 * 16 * 512, 256 * 512 * 16 * 256, 1024 * 256 * 9 * 3)


@pytest.mark.parametrize(
    ("name", "products", "steps", "tera"),
    (("svhn", SVHN, 20, 0.60), ("celeba64", CELEBA, 20, 3.5), ("cifar10", CIFAR10, 40, 18)),
)
def test_operations_of_a_training_step(name, products, steps, tera):
    """100 images: K steps (a forward pass and a gradient in z each) and an update (three)."""
    found = described(name)
    forward = 2 * sum(products)
    assert found["batch_size"] == 100
    assert found["generator_flops_per_image"] == forward
    assert found["flops_per_training_step"] == 100 * (2 * steps + 3) * forward
    assert found["flops_per_training_step"] == pytest.approx(tera * 1e12, rel=0.02)
    parts = found["flops_per_training_step_of"]
    assert sum(parts.values()) == found["flops_per_training_step"]


def test_an_objective_without_inference_runs_no_chain():
    found = described("svhn", "meg")["flops_per_training_step_of"]
    assert found["inference"] == found["inference_update"] == 0
    assert found["generator_update"] == 100 * 3 * 2 * sum(SVHN)


def test_shapes_account_for_every_parameter_and_it_is_json():
    found = json.loads(json.dumps(described("svhn")))
    assert found["latent_dim"] == 100 and found["objective"]["name"] == "variational"
    assert described("svhn", "rae")["objective"]["name"] == "rae"
    assert found["image_shape"] == [32, 32, 3]
    assert found["generator"]["shapes"]["layer_0.kernel"] == [4, 4, 100, 512]
    for network in ("prior", "generator", "inference", "objective"):
        total = 0
        for shape in found[network]["shapes"].values():
            size = 1
            for length in shape:
                size *= length
            total += size
        assert total == found[network]["parameters"]


def test_the_table_has_a_row_for_every_parameter_and_their_total():
    """LEBM on digits by hand: fully connected layers of 200, three transposed convolutions."""
    config = experiment("digits", "lebm")
    built = build.model(config)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in parameter_table(built).splitlines()
        if line.startswith("| ") and not line.startswith("| Name")
    ]
    found = describe(config, built)
    expected = {
        f"{network}/{name.replace('.', '/')}": shape
        for network in ("prior", "generator", "inference")
        for name, shape in found[network]["shapes"].items()
    }
    assert {name: list(ast.literal_eval(shape)) for name, shape, *_ in rows} == expected
    assert {dtype for _, _, dtype, _ in rows} == {"float32"}
    energy = 8 * 200 + 200 + 200 * 200 + 200 + 200 + 1
    generator = 2 * 2 * 8 * 64 + 64 + 16 * 64 * 32 + 32 + 16 * 32 + 1
    assert sum(int(size.replace(",", "")) for *_, size in rows) == energy + generator
    last = parameter_table(built).splitlines()[-1]
    assert last == f"Total: {energy + generator:,} -- {4 * (energy + generator):,} bytes"


def test_a_prior_without_parameters():
    assert described("svhn", "prior=gaussian")["prior"] == {
        "name": "gaussian",
        "parameters": 0,
        "shapes": {},
    }


def test_operations_of_an_inference_network():
    """Six updates of prior and encoder per update of the generator: Table 10's CIFAR-10."""
    found = described("cifar10", "lfbm_vae")
    sides = 1024 * 3 * 9 * 64 + 256 * 64 * 16 * 128 + 64 * 128 * 16 * 256 + 16 * 256 * 16 * 512
    network = 2 * (sides + 16 * 512 * 256 + 5 * 3 * 128 * 256)
    assert found["flops_per_training_step_of"] == {
        "inference": 100 * 6 * network,
        "inference_update": 100 * 6 * 2 * network,
        "generator_update": 100 * (3 + 5 * 2) * 2 * sum(CIFAR10),
    }
