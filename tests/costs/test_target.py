"""What `--target` says about this machine's processor and about accelerators it does not have."""

import importlib.util
import json
import math

import jax
import pytest

from lfbm_jax.costs import accelerators, target
from lfbm_jax.costs.accelerators import Accelerator, Target
from lfbm_jax.costs.describe import describe
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build
from tests.builders import experiment, small_config
from tests.runs.test_variants import VARIANTS

PEAK = {"float32": 1e9, "tensorfloat32": 1e9, "bfloat16": 1e9}


def of_this_processor(config, **changes):
    described = {"name": "this", "memory_bytes": 1e9, "bandwidth": 1e9, "peak": PEAK} | changes
    named = Target(Accelerator(**described), tuple(jax.local_devices()[:1]))
    return target.describe(config, build.model(config), named)


def test_what_is_said_of_an_update():
    config = small_config()
    config.train.update({"batch_size": 6, "steps_per_call": 4})
    found = json.loads(json.dumps(of_this_processor(config)))
    assert (found["device"], found["devices"], found["fits"]) == ("this", 1, True)
    parameters = sum(
        describe(config, build.model(config))[part]["parameters"]
        for part in ("prior", "generator", "inference")
    )
    # Parameters with Adam's moments; images, indices and weights of a call; little else.
    known = 4 * 3 * parameters + 4 * 6 * (64 + 4 + 4)
    assert known < found["argument_bytes"] < 1.02 * known
    kinds = found["operations_per_step"]
    total = kinds.pop("total")
    assert total == sum(kinds.values()) + sum(found["library_calls"].values())
    assert found["bytes_exchanged_per_step"] == 0
    # All products ask for full float32: `describe`'s, but for the gradient in z of the first layer
    # (5 to 12 numbers), which the update does not need, and the prior's, which are a fifth.
    assert found["flops_per_step"].keys() == {"float32"}
    of_networks = describe(config, build.model(config))["flops_per_training_step"]
    assert of_networks - 2 * 6 * 5 * 12 < found["flops_per_step"]["float32"] < 1.3 * of_networks
    assert 0 < found["seconds_at_least"] <= 1.01 * found["flops_per_step"]["float32"] / 1e9


def test_what_does_not_fit_and_what_is_not_known():
    config = small_config()
    found = of_this_processor(config, memory_bytes=10e3, peak={})
    assert not found["fits"] and found["seconds_at_least"] is None
    slow_memory = of_this_processor(config, bandwidth=1.0)
    assert slow_memory["seconds_at_least"] > slow_memory["argument_bytes"]


def test_a_file_of_a_gpu_is_read_as_xla_writes_it(tmp_path):
    """The H100 by its own description: peaks are those of 132 cores at their highest clock."""
    known = accelerators.GPUS["h100"]
    path = tmp_path / "mine.txtpb"
    path.write_text("dnn_version_info { major: 8 }\n" + known.gpu)
    found = accelerators.read_gpu(path)
    assert found.name == "NVIDIA H100 80GB HBM3"
    assert (found.memory_bytes, found.bandwidth) == (known.memory_bytes, known.bandwidth)
    for precision, rate in known.peak.items():
        assert rate <= found.peak[precision] * 1.01 < 1.1 * rate
    path.write_text(known.gpu.replace("major: 9 }", "major: 7 minor: 0 }"))
    assert accelerators.read_gpu(path).peak.keys() == {"float32"}
    path.write_text("clock_rate_ghz: 1.0")
    with pytest.raises(UserError, match="core_count is missing"):
        accelerators.read_gpu(path)


@pytest.mark.parametrize(
    "name, remedy",
    (
        ("h1000", "use one of a100, h100, h200, v5e, v5p, v6e"),
        ("h100:2x2", "not a number of GPUs"),
        ("h100:0", "not a number of GPUs"),
        ("v5e:fast", "neither a number nor a grid"),
        ("v5e:8", "name a slice"),
        ("h100", r"pip install --no-deps jax-cuda12-plugin==\d"),
        ("v5e:2x2", r"pip install 'jax\[tpu\]==\d"),
    ),
)
def test_what_cannot_be_compiled_for_is_one_line_with_the_remedy(name, remedy, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=remedy) as raised:
        accelerators.find(name)
    assert str(raised.value).startswith(f"--target={name}: ")
    assert "\n" not in str(raised.value)


def needs(*packages):
    found = any(importlib.util.find_spec(package) for package in packages)
    return pytest.mark.skipif(not found, reason=f"needs {' or '.join(packages)}")


tpu = needs("libtpu")
CHIPS = (
    pytest.param("h100", marks=needs("jax_cuda12_plugin", "jax_cuda13_plugin")),
    pytest.param("v5e", marks=tpu),
)


@pytest.fixture
def hasty_compiler():
    """A TPU's compiler spends minutes on the speed of a program that nobody runs here."""
    usual = jax.config.jax_exec_time_optimization_effort
    jax.config.update("jax_exec_time_optimization_effort", -1.0)
    yield
    jax.config.update("jax_exec_time_optimization_effort", usual)


def described(name, config):
    return target.describe(config, build.model(config), accelerators.find(name))


# Multiply-adds of SVHN's four layers for one image: the taps that meet the image are 4 n - 2 of
# those of n pixels along an axis.
FIRST, *OTHERS = (100 * 16 * 512, 512 * 256 * 14**2, 256 * 128 * 30**2, 128 * 3 * 62**2)


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS)
def test_svhn_runs_the_products_that_its_layers_have(chip):
    """43 passes through the generator: K = 20 steps forward and back, and three for the update,
    which needs no gradient in z of the first layer."""
    found = described(chip, experiment("svhn"))
    assert found["fits"]
    convolutions = 2 * 100 * (42 * FIRST + 43 * sum(OTHERS))
    of_networks = found["flops_per_step"]["tensorfloat32"]
    assert of_networks == pytest.approx(convolutions, rel=1e-3)
    peak = accelerators.find(chip).accelerator.peak["tensorfloat32"]
    assert 1 < found["seconds_at_least"] / (convolutions / peak) < 1.1
    if chip == "v5e":
        assert found["modelled_cycles"] > 1e6


@pytest.mark.slow
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("variants", ("", *VARIANTS))
@pytest.mark.parametrize("name", ("svhn", "cifar10", "celeba64", "celebahq256", "mnist_anomaly"))
@pytest.mark.usefixtures("hasty_compiler")
def test_every_config_and_variant_of_the_paper_compiles(name, variants, chip):
    found = described(chip, experiment(name, variants))
    assert found["fits"] and found["operations_per_step"]["total"] > 100


@tpu
@pytest.mark.slow
def test_256_on_a_slice_of_sixteen_chips():
    """With 1,600 images, 100 per chip, every gradient is exchanged once, with a few metrics."""
    config = experiment("celebahq256")
    config.train.batch_size = 1600
    found = described("v5e:4x4", config)
    assert found["devices"] == 16 and found["fits"]
    networks = describe(config, build.model(config))
    gradients = 4 * (networks["prior"]["parameters"] + networks["generator"]["parameters"])
    assert math.isclose(found["bytes_exchanged_per_step"], gradients, rel_tol=1e-2)
