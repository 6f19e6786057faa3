"""Converted checkpoints compute what the authors' networks compute, and what NumPy computes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import lfbm_jax
from lfbm_jax.errors import UserError
from lfbm_jax.runs import authors_checkpoint, build, conversion
from tests import pytorch_writer
from tests.authors_networks import SIZES, made_up
from tests.builders import experiment
from tests.conftest import REPO

FIXTURES = REPO.parent / "shared" / "fixtures"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def numpy_inverse(flow, num_steps, z):
    """Maps z to z0 and log|det|, [N, d] and [N], in NumPy and in the authors' layout."""

    def actnorm(h, prefix):
        return (h + flow[f"{prefix}b"]) * np.exp(3 * flow[f"{prefix}logs"])

    log_det = np.zeros(len(z))
    for i in range(num_steps):
        step = f"revnet2d_s.0.revnet2d_step_s.{i}."
        matrix = flow[f"{step}invertible_1x1_conv.w"]
        z = actnorm(z, f"{step}actnorm.") @ matrix
        log_det += 3 * flow[f"{step}actnorm.logs"].sum() + np.linalg.slogdet(matrix)[1]
        first, second = np.split(z, 2, axis=1)
        h = first
        for name in ("fc_1", "fc_2"):
            h = np.maximum(actnorm(h @ flow[f"{step}f.{name}.w"], f"{step}f.{name}.actnorm."), 0)
        h = actnorm(h @ flow[f"{step}f.fc_zeros.w"], f"{step}f.fc_zeros.")
        scale = 1 / (1 + np.exp(-(h[:, 1::2] + 2)))
        z = np.concatenate([first, (second + h[:, ::2]) * scale], axis=1)
        log_det += np.log(scale).sum(axis=1)
    return z, log_det


def numpy_images(generator, geometry, z):
    """Images [N, H, W, C], as sums of the contributions of every input pixel."""
    x = z[:, None, None, :]
    for i, (stride, padding) in enumerate(geometry):
        weight = generator[f"gen.{3 * i}.weight"]
        n, side, kernel = len(x), x.shape[1], weight.shape[-1]
        full = (side - 1) * stride + kernel
        y = np.zeros((n, full, full, weight.shape[1]))
        for row in range(side):
            for column in range(side):
                part = np.einsum("ni,iokl->nklo", x[:, row, column], weight)
                top, left = row * stride, column * stride
                y[:, top : top + kernel, left : left + kernel] += part
        y = y[:, padding : full - padding, padding : full - padding]
        x = y + generator[f"gen.{3 * i}.bias"]
        if i < len(geometry) - 1:
            x = np.where(x > 0, x, 0.2 * x)
    return np.tanh(x)


def restored(folder):
    """The trained model of a work directory, and its prepared parameters."""
    trained = lfbm_jax.load(folder)
    parameters = jax.tree.map(jnp.asarray, trained._parameters)
    return trained, jax.jit(trained.model.prepare)(parameters)


def batched(function):
    return jax.jit(jax.vmap(function))


@pytest.fixture(scope="module")
def theirs():
    """The results that the authors' networks computed from the fixture's checkpoint."""
    if not FIXTURES.is_dir():
        pytest.skip("needs the checkpoint of ../shared/fixtures beside the repository")
    return np.load(FIXTURES / "authors_svhn_small.npz")


@pytest.fixture(scope="module")
def converted(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("authors") / "run"
    conversion.convert(FIXTURES / "authors_svhn_small.pth", experiment("svhn"), folder)
    return restored(folder)


def test_flow_is_theirs(converted, theirs):
    trained, prepared = converted
    prior = trained.model.prior
    bound = {
        name: batched(functools.partial(getattr(prior, name), prepared.alpha))
        for name in ("log_prob", "inverse", "forward")
    }
    np.testing.assert_allclose(bound["log_prob"](theirs["z"]), theirs["log_prob"], **CLOSE)
    np.testing.assert_allclose(bound["inverse"](theirs["z"]), theirs["z0"], **CLOSE)
    np.testing.assert_allclose(bound["forward"](theirs["base"]), theirs["sampled"], **CLOSE)


def test_generator_is_theirs(converted, theirs):
    trained, _ = converted
    expected = theirs["images_nchw"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(trained.decode(theirs["z"]), expected, **CLOSE)


def test_langevin_chain_is_theirs(converted, theirs):
    """Ten steps on the model's log joint, with the authors' start and noise."""
    trained, prepared = converted
    s = float(theirs["step_size"])
    assert trained.model.sigma == theirs["sigma"]
    assert trained.model.inference.step_size == s

    def chain(x, start, noise):
        log_joint = trained.model.log_joint(prepared, x)

        def step(z, eps):
            return z + s**2 / 2 * jax.grad(lambda z: sum(log_joint(z)))(z) + s * eps, None

        return jax.lax.scan(step, start, noise)[0]

    x = theirs["x_nchw"].transpose(0, 2, 3, 1)
    found = batched(chain)(x, theirs["start"], theirs["noise"].transpose(1, 0, 2))
    np.testing.assert_allclose(found, theirs["chain"], **CLOSE)


def test_work_directory_of_the_fixture(converted):
    trained, _ = converted
    assert trained.step == 7
    assert trained.config.model.latent_dim == 20
    assert trained.config.prior.to_dict() == {"name": "glow", "num_steps": 5, "hidden_width": 16}
    assert trained.config.generator.layers == (
        (32, 4, 1, 0),
        (16, 4, 2, 1),
        (8, 4, 2, 1),
        (3, 4, 2, 1),
    )


@pytest.mark.parametrize("name", SIZES)
def test_other_sizes(name, tmp_path):
    """Results equal NumPy's when layers differ from the config in features but not in kernels."""
    d, num_steps, width, layers = SIZES[name]
    checkpoint = made_up(d, num_steps, width, layers)
    pytorch_writer.save(tmp_path / "checkpoint.pth", checkpoint)
    conversion.convert(tmp_path / "checkpoint.pth", experiment(name), tmp_path / "run")
    trained, prepared = restored(tmp_path / "run")
    assert trained.step == 9

    z = np.random.default_rng(1).normal(size=(3, d)).astype(np.float32)
    z0, log_det = numpy_inverse(checkpoint["netF"], num_steps, z)
    expected = scipy.stats.norm.logpdf(z0).sum(axis=1) + log_det
    np.testing.assert_allclose(trained.log_prior(z), expected, **CLOSE)
    found = batched(functools.partial(trained.model.prior.forward, prepared.alpha))(z0)
    np.testing.assert_allclose(found, z, **CLOSE)

    known = {4: (2, 1), 3: (1, 1)}
    geometry = [(1, 0)] + [known[kernel] for kernel, _ in layers[1:]]
    images = numpy_images(checkpoint["netG"], geometry, z)
    side = {"celeba64": 64}.get(name, 32)
    assert images.shape == (3, side, side, 3)
    np.testing.assert_allclose(trained.decode(z), images, **CLOSE)


def sizes_after(layers, config):
    """The image shape that a config records for a checkpoint with these layers."""
    converted = authors_checkpoint.read_state(made_up(4, 1, 3, layers), "checkpoint.pth")
    config = config.copy_and_resolve_references()
    conversion.adapt(config, converted)
    build.model(config)  # raises if they do not agree
    return config.data.image_size, config.data.channels, config.generator.layers


def test_strides_come_from_the_config_or_the_rules_of_the_authors():
    svhn = experiment("svhn")
    four = ((4, 8), (4, 7), (4, 6), (4, 3))
    assert sizes_after(four, svhn)[:2] == (32, 3)
    # The config's strides apply if its kernel sizes are those of the checkpoint.
    strides = experiment("svhn").unlock()
    strides.generator.layers = ((9, 4, 1, 0), (9, 4, 3, 0), (9, 4, 2, 1), (3, 4, 2, 1))
    side, _, layers = sizes_after(four, strides)
    assert [layer[2:] for layer in layers] == [(1, 0), (3, 0), (2, 1), (2, 1)]
    assert side == 52
    # Otherwise the authors' apply.
    assert sizes_after(((4, 8), (4, 1)), svhn)[:2] == (8, 1)
    assert sizes_after(((8, 8), (4, 7), (3, 3)), svhn)[:2] == (16, 3)
    with pytest.raises(UserError, match="stride of a layer with kernel size 5 is unknown"):
        sizes_after(((4, 8), (5, 3)), svhn)


def test_configs_and_folders_that_do_not_do(tmp_path):
    pytorch_writer.save(tmp_path / "checkpoint.pth", made_up(*SIZES["svhn"]))
    other = experiment("svhn", "prior=gaussian")
    with pytest.raises(UserError, match=r"prior\.name='gaussian'.*'glow'"):
        conversion.convert(tmp_path / "checkpoint.pth", other, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run"):
        conversion.convert(tmp_path / "checkpoint.pth", experiment("svhn"), tmp_path / "run")
