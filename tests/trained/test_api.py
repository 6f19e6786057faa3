"""`lfbm_jax.load` and what a trained model does with arrays."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import lfbm_jax
from lfbm_jax import learning
from lfbm_jax.devices import sharding
from lfbm_jax.errors import UserError
from lfbm_jax.priors import gaussian
from lfbm_jax.runs import build, workdir
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.trained import api, interpolation
from tests.builders import invented, small_config
from tests.conftest import REPO

SHAPE = (8, 8, 1)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make_run(folder, config=None):
    """A work directory with checkpoints 3 and 5 of invented parameters."""
    config = (config or small_config()).lock()
    built = build.model(config)
    workdir.claim(folder, config)
    checkpoints = Checkpoints(folder)
    for step in (3, 5):
        state = learning.first_state(config, invented(built.init, seed=step))
        checkpoints.save(state._replace(step=jnp.asarray(step, jnp.int32)))
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("api") / "run")


@pytest.fixture(scope="module")
def trained(run):
    return lfbm_jax.load(run)


@pytest.fixture(scope="module")
def images():
    """uint8 images, one of them all black and one all white."""
    images = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), dtype=np.uint8)
    images[0], images[1] = 0, 255
    return images


def test_load_takes_the_newest_checkpoint_or_a_chosen_one(run, trained):
    assert trained.step == 5
    older = lfbm_jax.load(str(run), step=3)
    assert older.step == 3
    assert older.config.to_dict() == trained.config.to_dict() == small_config().to_dict()
    for step, loaded in ((3, older), (5, trained)):
        expected = invented(loaded.model.init, seed=step)
        jax.tree.map(np.testing.assert_array_equal, loaded._parameters, expected)
    with pytest.raises(UserError, match="which has 3, 5"):
        lfbm_jax.load(run, step=4)
    with pytest.raises(UserError, match="no run there"):
        lfbm_jax.load(run / "nowhere")


def test_a_config_of_before_a_key_existed_has_its_default(run, tmp_path):
    stored = workdir.read_config(run)
    del stored["data"]["mask"], stored["prior"]["num_steps"], stored["tasks"]
    del stored["optimizer"]["prior"]["clip_norm"]
    stored["paper"] = {"reconstruct": {"mse": 0.005}}  # Earlier versions kept the figures there.
    (tmp_path / "config.json").write_text(json.dumps(stored))
    loaded = workdir.load_config(tmp_path).to_dict()
    assert loaded["data"]["mask"] == "" and loaded["tasks"] == ("generate", "reconstruct")
    assert loaded["prior"]["num_steps"] == 5, "the part's own default"
    assert loaded["optimizer"]["prior"]["clip_norm"] == 0 and "paper" not in loaded
    workdir.claim(tmp_path, workdir.load_config(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "another program's"}))
    with pytest.raises(UserError, match="not the config of a run"):
        workdir.load_config(tmp_path)
    assert workdir.load_config(run).to_dict() == small_config().to_dict()


def test_decode_and_log_prior_are_the_models(trained):
    z = np.random.default_rng(1).normal(size=(8, 5))
    prepared = trained.model.prepare(jax.tree.map(jnp.asarray, trained._parameters))
    for found, function in (
        (trained.decode(z), trained.model.decode),
        (trained.log_prior(z), trained.model.log_p_z),
    ):
        expected = jax.vmap(lambda z, f=function: f(prepared, z))(z.astype(np.float32))
        assert isinstance(found, np.ndarray) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_samples_are_a_function_of_seed_and_position(trained):
    z, found = trained.sample(8, seed=4)
    assert z.shape == (8, 5) and found.shape == (8, *SHAPE)
    np.testing.assert_allclose(trained.decode(z), found, atol=1e-5)
    np.testing.assert_allclose(trained.sample(3, seed=4).images, found[:3], atol=1e-5)
    assert np.all(np.abs(trained.sample(8, seed=5).z - z) > 1e-4)


@dataclasses.dataclass(frozen=True)
class Overflowing(gaussian.Prior):
    """N(0, I), of whose draws some share overflows in one coordinate."""

    share: float = 0.0

    def sample(self, prepared, key):
        z = super().sample(prepared, key)
        return z.at[1].set(jnp.where(jax.random.uniform(key) < self.share, jnp.inf, z[1]))


def with_overflows(trained, share):
    model = dataclasses.replace(trained.model, prior=Overflowing(5, share))
    return api.TrainedModel(trained.config, model, trained._parameters, step=5)


def test_draws_that_overflow_are_reported_and_drawn_again(trained, capsys):
    usual = with_overflows(trained, 0.0).sample(1000, seed=1)
    assert not capsys.readouterr().out
    model = with_overflows(trained, 0.005)
    z, found = model.sample(1000, seed=1)
    again = (z != usual.z).any(axis=1)
    count = np.count_nonzero(again)
    said = f"warning: step 5: {count} of 1000 draws from the prior overflowed\n"
    assert 1 < count <= 10 and capsys.readouterr().out == said
    assert np.isfinite(z).all() and len(np.unique(z, axis=0)) == 1000
    np.testing.assert_allclose(model.decode(z), found, atol=1e-5)
    # Drawn in parts, each sample is the same.
    parts = [model.sample(500, seed=1, first=first).z for first in (0, 500)]
    np.testing.assert_array_equal(np.concatenate(parts), z)


@pytest.mark.parametrize("num, share", ((1000, 0.05), (1, 1.0)))
def test_draws_that_overflow_often_are_an_error(num, share, trained):
    with pytest.raises(FloatingPointError, match=rf"step 5: \d+ of {num} draws .* overflowed"):
        with_overflows(trained, share).sample(num)


def test_bytes_and_floats_are_the_same_images(trained, images):
    inferred = trained.infer(images, seed=2)
    for floats in (images / 127.5 - 1, (images / 127.5 - 1).astype(np.float32)):
        again = trained.infer(floats, seed=2)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), again, inferred)
    other = trained.infer(images, seed=3)
    assert np.all(np.linalg.norm(other.z - inferred.z, axis=1) > 1e-2)
    np.testing.assert_array_equal(trained.reconstruct(images, seed=2), inferred.reconstruction)
    np.testing.assert_allclose(inferred.reconstruction, trained.decode(inferred.z), atol=1e-5)


def test_chunks_that_are_numbered_give_what_all_images_do(trained, images):
    """The same batches and programs give the same results, bit for bit."""
    whole = trained.infer(images, seed=2, batch_size=3)
    chunks = [trained.infer(images[i : i + 3], 2, batch_size=3, first=i) for i in (0, 3, 6)]
    together = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    jax.tree.map(np.testing.assert_array_equal, together, whole)
    apart = trained.infer(images[3:6], 2, batch_size=3)
    assert np.all(np.linalg.norm(apart.z - whole.z[3:6], axis=1) > 1e-2)


def test_score_is_the_log_joint_density(trained, images):
    inferred = trained.infer(images)
    x, sigma = images / 127.5 - 1, trained.model.sigma
    squares = np.sum((x - inferred.reconstruction) ** 2, axis=(1, 2, 3))
    likelihood = -squares / (2 * sigma**2) - 64 * np.log(sigma * np.sqrt(2 * np.pi))
    expected = trained.log_prior(inferred.z) + likelihood
    np.testing.assert_allclose(trained.score(images), expected, rtol=1e-4)


class CountingGenerator:
    """Counts how often it is traced."""

    def __init__(self, generator):
        self.prepare = generator.prepare
        self.traces = 0
        self._apply = generator.apply

    def apply(self, prepared, z):
        self.traces += 1
        return self._apply(prepared, z)


def count_traces(trained):
    """The same model with a generator that counts, and that generator."""
    generator = CountingGenerator(trained.model.generator)
    counting = dataclasses.replace(trained.model, generator=generator)
    return api.TrainedModel(trained.config, counting, trained._parameters, step=0), generator


def test_any_number_of_images_compiles_twice(trained):
    counted, generator = count_traces(trained)
    z = np.random.default_rng(0).normal(size=(111, 5)).astype(np.float32)
    few, many = counted.decode(z[:4]), counted.decode(z)
    traces = generator.traces
    assert traces > 0
    np.testing.assert_allclose(few, many[:4], **CLOSE)
    for count in (1, 7, 12, 100, 3):
        np.testing.assert_allclose(counted.decode(z[-count:]), many[-count:], **CLOSE)
    assert generator.traces == traces


def test_other_parameters_compile_nothing_again(trained):
    """Also if they are set before the first use, as during training."""
    counted, generator = count_traces(trained)
    z = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    halves = jax.tree.map(lambda leaf: leaf / 2, trained._parameters)
    first, second = (counted.with_parameters(p, step=1) for p in (trained._parameters, halves))
    one, traces = first.decode(z), generator.traces
    other = second.decode(z)
    assert generator.traces == traces
    assert np.abs(one - other).max() > 1e-2
    np.testing.assert_allclose(one, trained.decode(z), **CLOSE)


def test_inpaint_keeps_what_is_visible_and_does_not_look_at_the_rest(trained, images):
    mask = np.ones((8, 8), bool)
    mask[2:6, 2:6] = False
    found = trained.inpaint(images[:3], mask, num=4, seed=1)
    assert found.shape == (3, 4, *SHAPE)
    x = (images[:3] / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(found[:, :, mask], np.repeat(x[:, None], 4, axis=1)[:, :, mask])
    hole = found[:, :, ~mask][..., 0]
    assert np.all(np.std(hole, axis=1).max(axis=-1) > 1e-3), "the completions are alike"

    changed = np.where(mask[..., None], images[:3], 255 - images[:3])
    np.testing.assert_array_equal(trained.inpaint(changed, mask, 4, seed=1), found)
    for same in (mask[..., None], np.stack([mask] * 3), np.stack([mask] * 3)[..., None] * 1.0):
        np.testing.assert_array_equal(trained.inpaint(images[:3], same, 4, seed=1), found)
    # Every image has its own mask.
    each = np.stack([mask, ~mask, mask])
    found = trained.inpaint(images[:3], each)
    np.testing.assert_array_equal(found[:, 0][each], x[each])


def test_interpolation_joins_the_reconstructions(trained, images):
    found = trained.interpolate(images[:2], images[2:4], num=5, seed=1)
    assert found.shape == (2, 5, *SHAPE)
    for end, x in ((0, images[:2]), (-1, images[2:4])):
        np.testing.assert_allclose(found[:, end], trained.reconstruct(x, seed=1), atol=1e-3)
    assert np.all(np.abs(np.diff(found, axis=1)).max(axis=(2, 3, 4)) > 1e-4)


@pytest.mark.parametrize("prior", ("nice", "realnvp", "spline"))
def test_interpolation_goes_through_every_flow(images, prior):
    config = small_config()
    config.prior = build.defaults("prior", prior) | {"num_steps": 2, "hidden_width": 4}
    built = build.model(config)
    trained = api.TrainedModel(config, built, invented(built.init), step=0)
    found = trained.interpolate(images[:1], images[1:2], num=3)
    for end, x in ((0, images[:1]), (-1, images[1:2])):
        np.testing.assert_allclose(found[:, end], trained.reconstruct(x), atol=1e-3)


def test_interpolation_without_a_flow(images):
    config = small_config()
    config.prior = {"name": "gaussian"}
    built = build.model(config)
    trained = api.TrainedModel(config, built, invented(built.init), step=0)
    found = trained.interpolate(images[:1], images[1:2], num=3)
    z = trained.infer(images[:2]).z
    z1, z2 = z[:1], trained.infer(images[1:2]).z
    directions = z1 / np.linalg.norm(z1), z2 / np.linalg.norm(z2)
    middle = (directions[0] + directions[1]) / np.linalg.norm(directions[0] + directions[1])
    middle *= (np.linalg.norm(z1) + np.linalg.norm(z2)) / 2
    np.testing.assert_allclose(found[:, 1], trained.decode(middle), atol=1e-4)


def test_the_way_between_two_vectors():
    random = np.random.default_rng(0)
    start, end = random.normal(size=(2, 7)).astype(np.float32) * [[1], [3]]
    fractions = np.linspace(0, 1, 11, dtype=np.float32)
    way = np.asarray(jax.vmap(lambda t: interpolation.between(start, end, t))(fractions))
    np.testing.assert_allclose(way[[0, -1]], [start, end], rtol=1e-5)
    norms = np.linalg.norm(way, axis=1)
    np.testing.assert_allclose(np.diff(norms), (norms[-1] - norms[0]) / 10, rtol=1e-3)
    units = way / norms[:, None]
    angles = np.arccos(np.sum(units[1:] * units[:-1], axis=1))
    np.testing.assert_allclose(angles, angles.mean(), rtol=1e-2)
    # Parallel vectors, where an angle of zero would divide by zero.
    np.testing.assert_allclose(interpolation.between(start, 2 * start, 0.5), 1.5 * start, rtol=1e-5)


BLANK = np.zeros((2, *SHAPE), np.uint8)
MASK = np.ones((8, 8))
MISTAKES = {
    "size": (lambda m: m.infer(np.zeros((2, 9, 8, 1))), r"shape \(2, 9, 8, 1\).*\(N, 8, 8, 1\)"),
    "one image": (lambda m: m.score(BLANK[0]), r"shape \(8, 8, 1\)"),
    "no image": (lambda m: m.score(BLANK[:0]), r"shape \(0, 8, 8, 1\)"),
    "NaN": (lambda m: m.score(np.full((1, *SHAPE), np.nan)), "NaN or infinity"),
    "infinity": (lambda m: m.score(np.full((1, *SHAPE), np.inf)), "NaN or infinity"),
    "range": (lambda m: m.reconstruct(BLANK + 255.0), r"from 255 to 255: .* in \[-1, 1\]"),
    "type": (lambda m: m.infer(BLANK.astype(int)), "type int64: give uint8"),
    "words": (lambda m: m.infer(np.full((1, *SHAPE), "a")), "give uint8"),
    "mask's shape": (lambda m: m.inpaint(BLANK, np.ones((9, 8))), r"mask of shape \(9, 8\)"),
    "masks": (lambda m: m.inpaint(BLANK, np.ones((3, 8, 8))), r"or \(2, 8, 8\)"),
    "mask's values": (lambda m: m.inpaint(BLANK, 255 * MASK), "values other than 1"),
    "mask's NaN": (lambda m: m.inpaint(BLANK, MASK * np.nan), "values other than 1"),
    "all masked": (
        lambda m: m.inpaint(BLANK, np.stack([MASK, 0 * MASK])),
        "hides all pixels of image 1",
    ),
    "latents": (lambda m: m.decode(np.zeros((3, 4))), r"shape \(3, 4\).*\(N, 5\)"),
    "no latents": (lambda m: m.log_prior(np.zeros((0, 5))), r"shape \(0, 5\)"),
    "latent NaN": (lambda m: m.log_prior(np.full((3, 5), np.nan)), "NaN or infinity"),
    "samples": (lambda m: m.sample(0), "num=0: must be a whole number of at least 1"),
    "share": (lambda m: m.sample(2.5), "num=2.5: must be a whole number"),
    "completions": (lambda m: m.inpaint(BLANK, MASK, num=0), "num=0: must be a whole"),
    "way": (lambda m: m.interpolate(BLANK, BLANK, num=1), "whole number of at least 2"),
    "ends": (lambda m: m.interpolate(BLANK, BLANK[:1], num=3), "2 and 1 images"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(case, trained):
    call, message = MISTAKES[case]
    with pytest.raises(UserError, match=message) as raised:
        call(trained)
    assert "\n" not in str(raised.value)


def test_a_score_that_is_not_finite_is_an_error(trained, images):
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), trained._parameters)
    with pytest.raises(FloatingPointError, match="not finite"):
        trained.with_parameters(broken, step=0).score(images)


def test_a_networks_products_are_as_precise_as_the_config_says(run):
    """The prior's products are exact, whatever JAX's own setting when a method is traced."""
    before = jax.config.jax_default_matmul_precision
    lfbm_jax.load(run)
    assert jax.config.jax_default_matmul_precision == before, "loading changes no global setting"
    for precision, expected in (("float32", "HIGHEST"), ("bfloat16", "DEFAULT")):
        config = small_config()
        config.precision = precision
        built = build.model(config)
        trained = api.TrainedModel(config, built, invented(built.init), step=0)
        z = sharding.replicate(np.ones((jax.local_device_count(), 1, 5), np.float32))
        for program, wanted in (("log_prior", "HIGHEST"), ("decode", expected)):
            text = getattr(trained._programs, program).lower(trained._parameters, z).as_text()
            assert set(re.findall(r"precision = \[(\w+)", text)) == {wanted}


def test_the_readme_example_runs(tmp_path, monkeypatch, capsys):
    text = (REPO / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?lfbm_jax\.load.*?)```", text, flags=re.DOTALL)
    make_run(tmp_path / "runs" / "digits")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert float(re.search(r"the same images: (\S+)", printed)[1]) < 1e-5
    for name in ("completions", "interpolation"):
        assert f"{name}.png" in printed
        assert np.asarray(Image.open(f"{name}.png")).std() > 0


def test_importing_the_package_imports_no_checkpoint_library(run_python):
    run_python("import sys, lfbm_jax; assert 'orbax' not in sys.modules; lfbm_jax.load")
