"""Exported models: the files, what loads them, and what is said of files that do not do."""

import json
import pathlib
import re
import shutil
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import yaml

import lfbm_jax
from lfbm_jax import learning
from lfbm_jax.errors import UserError
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import build, export, exported, workdir
from lfbm_jax.runs.checkpoints import Checkpoints
from lfbm_jax.trained.api import TrainedModel
from tests.builders import experiment, invented
from tests.rounding import assert_close

FROZEN = sorted(pathlib.Path(__file__).parents[1].glob("frozen/exports/*"))
Z = np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)


def made_up(init, seed):
    """Parameters so small that no draw of the prior overflows."""
    return invented(init, seed=seed, scale=0.05)


def make_run(folder, variants="smoke", ema_decay=0.0, fitted=True):
    """A work directory with a checkpoint of invented parameters, and another average of them.

    A prior that is fitted after training carries a mark, which is 0 until then.
    """
    config = experiment("digits", variants).unlock()
    config.train.ema_decay = ema_decay
    config.data.update({"dir": "/home/me/images", "cache_dir": "/home/me/cache"})
    config.metrics.inception_weights = "/home/me/weights.pth"
    config.task.inpaint.mask = "png:/home/me/mäsks/half.png"
    model = build.model(config.lock())
    workdir.claim(folder, config)
    state = learning.first_state(config, made_up(model.init, seed=1))
    if not fitted:
        alpha = jax.tree.map(np.zeros_like, state.parameters.alpha)
        state = state._replace(parameters=state.parameters._replace(alpha=alpha))
    if ema_decay:
        state = state._replace(average=made_up(model.init, seed=2))
    checkpoints = Checkpoints(folder)
    checkpoints.save(state._replace(step=np.int32(7)))
    checkpoints.close()
    return config


def report(folder, config, averaged=False, step=7, **figures):
    writer = ReportWriter(folder, "reconstruct", step, config, averaged)
    writer.describe(split="test", range="[-1, 1]", mask="png:/home/me/other.png")
    writer.write(figures)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an average, and reports on it, on the last parameters and on others."""
    folder = tmp_path_factory.mktemp("export") / "run"
    config = make_run(folder, ema_decay=0.9)
    report(folder, config, num_images=2, mse=0.111)
    report(folder, config, averaged=True, num_images=2, mse=0.222)
    return folder


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "model"
    export.export(run, folder)
    return folder


@pytest.fixture
def copy(shared, tmp_path):
    return pathlib.Path(shutil.copytree(shared, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("variants", "ema_decay"),
    [("smoke", 0.0), ("lfbm_vae,smoke", 0.9), ("lebm,smoke", 0.0), ("sri_l5,smoke", 0.9)],
)
def test_parameters_come_back_to_the_bit(variants, ema_decay, tmp_path):
    config = make_run(tmp_path / "run", variants, ema_decay)
    written = export.export(tmp_path / "run", tmp_path / "model")
    found = lfbm_jax.load(tmp_path / "model")
    expected = made_up(build.model(config).init, seed=2 if ema_decay else 1)
    for model in (written, found):
        jax.tree.map(np.testing.assert_array_equal, model.parameters, expected)
    assert found.step == 7 and found.averaged is None


def test_a_learned_sigma_comes_back_and_a_critic_stays_behind(tmp_path):
    """Arrays without axes keep their shape; a psi that scores no image is for training only."""
    config = experiment("digits", "smoke").unlock()
    config.model.learned_sigma = True
    model = build.model(config.lock())
    parameters = invented(model.init)._replace(psi={"critic": np.ones(3)})
    workdir.claim(tmp_path, config)
    exported.write(tmp_path, TrainedModel(config, model, parameters, 3), exported.LAST)
    found = lfbm_jax.load(tmp_path, step=3).parameters
    assert found.beta["log_sigma"].shape == () and found.psi is None
    assert found.beta["log_sigma"] == parameters.beta["log_sigma"]


@pytest.mark.parametrize("objective", ("meg", "ebm_vae", "bigan"))
def test_a_network_that_scores_images_is_exported(objective, tmp_path):
    config = make_run(tmp_path / "run", f"{objective},smoke")
    export.export(tmp_path / "run", tmp_path / "model")
    found = lfbm_jax.load(tmp_path / "model")
    expected = TrainedModel(config, found.model, made_up(found.model.init, seed=1), 7)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    np.testing.assert_array_equal(found.score(images), expected.score(images))


def test_the_file_is_readable_by_others(shared):
    """Names are flat, and JSON and safetensors are all it takes."""
    modes = {(shared / name).stat().st_mode for name in (exported.FILE, "config.json")}
    assert len(modes) == 1, "a file for others is no more private than any other file"
    arrays = safetensors.numpy.load_file(shared / exported.FILE)
    assert arrays["beta.layer_0.kernel"].ndim == 4
    assert {name.split(".")[0] for name in arrays} == {"alpha", "beta"}
    assert json.loads((shared / "config.json").read_text())["model"]["latent_dim"] == 8


def test_no_path_of_the_machine_is_shared(run, shared):
    assert "/home/me" in (run / "config.json").read_text()
    for file in shared.iterdir():
        assert b"/home/me" not in file.read_bytes()
    ours, theirs = (workdir.flat(workdir.read_config(folder)) for folder in (run, shared))
    assert {key for key in ours if ours[key] != theirs[key]} <= {*export.PATHS, "task.inpaint.mask"}
    assert theirs["task.inpaint.mask"] == "png:half.png"


def test_the_card_is_of_the_exported_parameters(run, shared):
    text = (shared / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    found = yaml.safe_load(header)
    assert found["library_name"] == "lfbm_jax" and "jax" in found["tags"]
    assert "license" not in found and "datasets" not in found
    assert "| figure | meaning | this model |" in body
    assert "1 | 0.222 |" in body and "0.111" not in body
    assert "moving average" in body and "training iterations: 7" in body
    assert "split test" in body and "versions" in body, "the setting of the figures"
    program = re.search(r"```python\n(.*?)```", body, re.DOTALL)[1]
    scope = {"lfbm_jax": lfbm_jax}
    program = program.replace("FOLDER", str(shared)).replace("model.reconstruct(images)", "None")
    exec(compile(program, "README.md", "exec"), scope)
    assert scope["images"].shape == (16, 8, 8, 1)


def test_a_card_has_no_figures_of_another_step_and_names_a_data_set_of_the_hub(tmp_path):
    config = make_run(tmp_path / "run").unlock()
    config.data.update({"source": "huggingface", "dir": "", "name": "owner/cats/small@v1"})
    (tmp_path / "run" / "config.json").write_text(json.dumps(workdir.plain(config)))
    report(tmp_path / "run", config, step=6, mse=0.333)
    export.export(tmp_path / "run", tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    assert "0.333" not in text and "No report was written" in text
    assert yaml.safe_load(text.split("---\n")[1])["datasets"] == ["owner/cats"]


def test_orbax_is_not_needed(shared, run_python):
    """It is hidden, so that its import would fail; so is every network."""
    done = run_python(
        f"""
        import sys
        for name in ("orbax", "orbax.checkpoint", "huggingface_hub"):
            sys.modules[name] = None
        import lfbm_jax
        model = lfbm_jax.load({str(shared)!r})
        print(model.sample(2).images.shape)
        """
    )
    assert done.stdout.strip() == "(2, 8, 8, 1)"


def test_the_command_exports(run, shared, run_python, tmp_path):
    command = ["-m", "lfbm_jax.convert", run, f"--export={tmp_path / 'model'}"]
    done = run_python(command)
    assert f"lfbm_jax.load('{tmp_path / 'model'}')" in done.stdout
    for name in ("config.json", "README.md"):
        assert (tmp_path / "model" / name).read_bytes() == (shared / name).read_bytes()
    arrays = (safetensors.numpy.load_file(f / exported.FILE) for f in (tmp_path / "model", shared))
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    again = run_python(command, check=False)
    assert again.returncode == 2
    assert again.stderr.strip().endswith("is not empty; choose a new folder")


def test_a_prior_that_is_not_fitted_is_refused(tmp_path):
    make_run(tmp_path / "run", "rae,smoke", fitted=False)
    with pytest.raises(UserError, match="not fitted yet"):
        export.export(tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def rewrite(folder, change_arrays=lambda arrays: None, **metadata):
    """Writes the model's file anew, with arrays or metadata changed."""
    path = folder / exported.FILE
    with safetensors.safe_open(path, framework="numpy") as file:
        found, arrays = file.metadata(), safetensors.numpy.load_file(path)
    change_arrays(arrays)
    found |= {"crc32": str(exported._checksum(arrays))} | metadata
    safetensors.numpy.save_file(arrays, path, found)


def test_rewriting_alone_is_no_damage(copy):
    rewrite(copy)
    assert lfbm_jax.load(copy).step == 7


def flip_a_bit(folder):
    path = folder / exported.FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


KERNEL = "beta.layer_0.kernel"
DAMAGES = {
    "cut": (
        lambda f: (f / exported.FILE).write_bytes((f / exported.FILE).read_bytes()[:-9]),
        r"model\.safetensors is damaged",
    ),
    "empty": (lambda f: (f / exported.FILE).write_bytes(b""), "is damaged"),
    "bit": (flip_a_bit, r"is damaged \(its checksum differs\)"),
    "no step": (lambda f: rewrite(f, step="x"), "is damaged"),
    "no config": (lambda f: (f / "config.json").unlink(), r"config\.json is missing"),
    "another's": (
        lambda f: safetensors.numpy.save_file({"a": np.ones(2)}, f / exported.FILE),
        "is not a model of lfbm_jax: make one",
    ),
    "newer": (lambda f: rewrite(f, format_version="2"), "has format 2, and this release reads"),
    "missing": (lambda f: rewrite(f, lambda a: a.pop(KERNEL)), f"{KERNEL} is missing"),
    "unknown": (lambda f: rewrite(f, lambda a: a.update(x=np.ones(2))), "x is unknown"),
    "shape": (
        lambda f: rewrite(f, lambda a: a.update({KERNEL: np.ones((2, 2), np.float32)})),
        rf"{KERNEL} has shape \(2, 2\) instead of",
    ),
    "not finite": (
        lambda f: rewrite(f, lambda a: a.update({KERNEL: a[KERNEL] * np.nan})),
        f"{KERNEL} is not finite",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_does_not_fit_is_named(case, copy):
    damage, message = DAMAGES[case]
    damage(copy)
    with pytest.raises(UserError, match=message) as raised:
        lfbm_jax.load(copy)
    assert "\n" not in str(raised.value) and str(copy) in str(raised.value)


def test_another_step_is_refused(copy):
    with pytest.raises(UserError, match=r"step=3: .* holds step 7 only"):
        lfbm_jax.load(copy, step=3)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The hub's own cache folder, which its package reads without a network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def put(cache, repository, revision, source):
    """Lays a snapshot into the cache as a download does."""
    place = cache / f"models--{repository.replace('/', '--')}"
    sha = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(sha)
    shutil.copytree(source, place / "snapshots" / sha)


def test_a_repository_of_the_hub_is_loaded_by_its_name(hub_cache, shared):
    put(hub_cache, "owner/digits", "main", shared)
    put(hub_cache, "owner/older", "v1", shared)
    expected = lfbm_jax.load(shared).decode(Z)
    for name in ("hf://owner/digits", "hf://owner/older@v1"):
        np.testing.assert_array_equal(lfbm_jax.load(name).decode(Z), expected)


def test_only_the_files_of_a_model_are_fetched(shared, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot_download(repository, **settings):
        asked.append((repository, settings))
        return str(shared)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert lfbm_jax.load("hf://owner/digits@v1").step == 7
    files = ["config.json", "model.safetensors"]
    assert asked == [("owner/digits", {"revision": "v1", "allow_patterns": files})]


def test_what_the_hub_lacks_is_one_line(hub_cache, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    put(hub_cache, "owner/empty", "main", tmp_path / "empty")
    for name, message in (
        ("hf://digits", "is not a name on the hub: use hf://OWNER/NAME"),
        ("hf://owner/none", "'hf://owner/none' could not be fetched from the hub"),
        ("hf://owner/empty", r"'hf://owner/empty' has no model\.safetensors"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            lfbm_jax.load(name)
        assert "\n" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'lfbm_jax\[huggingface\]'"):
        lfbm_jax.load("hf://owner/digits")


def test_there_are_frozen_exports():
    assert FROZEN


@pytest.mark.parametrize("folder", FROZEN, ids=lambda path: path.name)
def test_exports_of_earlier_releases_are_read(folder):
    model = lfbm_jax.load(folder)
    expected = json.loads((folder / "expected.json").read_text())
    assert model.step == expected["step"]
    images = model.decode(Z)
    assert_close(images.mean((1, 2, 3)), expected["image_means"], 100)
    assert_close(images[:, 0, :, 0], expected["first_pixels"], 100)
    assert_close(model.log_prior(Z), expected["log_prior"], 100)
