"""Converted checkpoints compute what the authors' networks compute, and what NumPy computes."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from absl.testing import flagsaver

from lfbm_jax import convert
from lfbm_jax.errors import UserError
from lfbm_jax.runs import build, cli, given, restore
from tests import pytorch_writer
from tests.builders import experiment
from tests.conftest import REPO

FIXTURES = REPO.parent / "shared" / "fixtures"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

# Their networks at other sizes, by config: d, flow steps, coupling width, layers (kernel, features)
SIZES = {
    "svhn": (6, 3, 5, ((4, 8), (4, 6), (4, 5), (4, 3))),
    "cifar10": (8, 1, 3, ((8, 7), (4, 6), (4, 5), (3, 3))),
    "celeba64": (4, 2, 7, ((4, 6), (4, 5), (4, 4), (4, 3), (4, 3))),
}


def made_up(d, num_steps, width, layers, seed=0):
    """A checkpoint in the authors' format with random weights."""
    random = np.random.default_rng(seed)

    def noise(*shape, scale=0.2):
        return (scale * random.normal(size=shape)).astype(np.float32)

    def actnorm(prefix, size):
        return {f"{prefix}actnorm.{name}": noise(1, size) for name in ("b", "bias", "logs")}

    flow = {}
    for i in range(num_steps):
        step = f"revnet2d_s.0.revnet2d_step_s.{i}."
        rotation = np.linalg.qr(random.normal(size=(d, d)))[0].astype(np.float32)
        flow |= actnorm(step, d) | {f"{step}invertible_1x1_conv.w": rotation + noise(d, d)}
        for name, inputs in (("fc_1", d // 2), ("fc_2", width)):
            flow |= {f"{step}f.{name}.w": noise(inputs, width, scale=1)}
            flow |= {f"{step}f.{name}.b": noise(1, width)} | actnorm(f"{step}f.{name}.", width)
        last = f"{step}f.fc_zeros."
        flow |= {f"{last}w": noise(width, d), f"{last}b": noise(1, d), f"{last}logs": noise(1, d)}
    generator, channels = {}, d
    for i, (kernel, features) in enumerate(layers):
        weight = noise(channels, features, kernel, kernel, scale=0.5)
        generator |= {f"gen.{3 * i}.weight": weight, f"gen.{3 * i}.bias": noise(features)}
        channels = features
    moments = {"state": {"0": {"step": np.array(5), "exp_avg": noise(1, d)}}}
    return {"epoch": 9, "netF": flow, "optF": moments, "netG": generator, "optG": {}}


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
    trained = restore.load(folder)
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
    convert.convert(FIXTURES / "authors_svhn_small.pth", experiment("svhn"), folder)
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
    convert.convert(tmp_path / "checkpoint.pth", experiment(name), tmp_path / "run")
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
    converted = convert.read_state(made_up(4, 1, 3, layers), "checkpoint.pth")
    config = config.copy_and_resolve_references()
    convert.adapt(config, converted)
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


STEP = "revnet2d_s.0.revnet2d_step_s."


def without(name):
    def change(networks):
        del networks[name[0]][name[1]]

    return change


def changed(network, name, value):
    def change(networks):
        networks[network][name] = value

    return change


DAMAGES = {
    "no network": (lambda c: c.pop("netG"), "lacks 'epoch', 'netF' or 'netG'"),
    "array instead": (lambda c: c.update(netF=np.zeros(3)), "netF is not a state dict"),
    "epoch": (lambda c: c.update(epoch=-1), "epoch is -1"),
    "empty": (lambda c: c["netF"].clear(), r"netF has no array named revnet2d_s\.0"),
    "missing": (without(("netF", f"{STEP}1.f.fc_2.w")), r"netF\.\S+\.1\.f\.fc_2\.w is missing"),
    "missing step": (
        lambda c: [c["netF"].pop(k) for k in list(c["netF"]) if k.startswith(f"{STEP}0.")],
        r"netF\.\S+\.0\.invertible_1x1_conv\.w is missing",
    ),
    "missing layer": (without(("netG", "gen.3.weight")), r"netG\.gen\.3\.weight is missing"),
    "shape": (
        changed("netF", f"{STEP}2.actnorm.logs", np.zeros((1, 5), np.float32)),
        r"actnorm\.logs has shape \(1, 5\) instead of \(1, 6\)",
    ),
    "layer shape": (
        changed("netG", "gen.3.weight", np.zeros((9, 6, 4, 4), np.float32)),
        r"gen\.3\.weight has shape \(9, 6, 4, 4\) instead of \(8, 6, 4, 4\)",
    ),
    "axes": (
        changed("netG", "gen.0.weight", np.zeros((6, 8), np.float32)),
        r"gen\.0\.weight has shape \(6, 8\), but needs 4 axes",
    ),
    "number": (changed("netG", "gen.0.bias", 3), r"gen\.0\.bias has shape \(\) instead of \(8,\)"),
    "not finite": (
        changed("netG", "gen.0.bias", np.full(8, np.nan, np.float32)),
        r"gen\.0\.bias is not finite",
    ),
    "unknown": (
        changed("netG", "gen.1.weight", np.zeros(8, np.float32)),
        r"netG\.gen\.1\.weight is unknown",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_does_not_fit_is_named(case):
    damage, message = DAMAGES[case]
    checkpoint = made_up(*SIZES["svhn"])
    damage(checkpoint)
    with pytest.raises(UserError, match=rf"^checkpoint\.pth.*{message}") as raised:
        convert.read_state(checkpoint, "checkpoint.pth")
    assert "\n" not in str(raised.value)


def test_an_odd_number_of_latent_dimensions_is_refused():
    with pytest.raises(UserError, match="5 latent dimensions"):
        convert.read_state(made_up(5, *SIZES["svhn"][1:]), "checkpoint.pth")


def test_configs_and_folders_that_do_not_do(tmp_path):
    pytorch_writer.save(tmp_path / "checkpoint.pth", made_up(*SIZES["svhn"]))
    other = experiment("svhn", "prior=gaussian")
    with pytest.raises(UserError, match=r"prior\.name='gaussian'.*'glow'"):
        convert.convert(tmp_path / "checkpoint.pth", other, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run"):
        convert.convert(tmp_path / "checkpoint.pth", experiment("svhn"), tmp_path / "run")


def test_command_line(run_python, tmp_path):
    """Converts a checkpoint and samples from it without flags for its sizes."""
    pytorch_writer.save(tmp_path / "checkpoint.pth", made_up(*SIZES["svhn"]))
    run = tmp_path / "run"
    command = ["-m", "lfbm_jax.convert", tmp_path / "checkpoint.pth", "--config=configs/svhn.py"]
    done = run_python([*command, f"--workdir={run}"])
    assert "latent dimension 6, 3 flow steps of width 5, 32 x 32 images" in done.stdout
    assert json.loads((run / "config.json").read_text())["model"]["latent_dim"] == 6
    run_python(["-m", "lfbm_jax.main", "--mode=sample", "--num=3", f"--workdir={run}"])
    assert np.load(run / "samples.npy").shape == (3, 32, 32, 3)



@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/svhn.py", "--workdir=run"], "CKPT.pth is missing"),
        (["checkpoint.pth", "--config=configs/svhn.py"], "--workdir is missing"),
        (["checkpoint.pth", "more.pth", "--config=configs/svhn.py"], "'more.pth' is not a flag"),
        (["checkpoint.pth", "--workdir=run"], "--config is missing"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(convert.main, given.config, ["convert", *arguments], arguments=("CKPT.pth",))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
