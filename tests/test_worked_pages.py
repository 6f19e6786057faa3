"""The README's pages that add a part of each kind: their files and commands work as printed."""

import csv
import importlib
import json
import re
import shlex
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lfbm_jax import data
from lfbm_jax.errors import UserError
from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives import variational
from lfbm_jax.objectives.base import Keys
from lfbm_jax.runs import build, configuration, evaluate
from lfbm_jax.runs.workdir import flat
from tests import test_contracts, test_offered, trial
from tests.builders import ROOT, build_part, experiment, perturbed
from tests.linear_gaussian import linear_model, posterior

README = (ROOT / "lfbm_jax" / "README.md").read_text(encoding="utf-8")
KINDS = {
    "a prior": "prior",
    "a generator": "generator",
    "an inference method": "inference",
    "an objective": "objective",
    "a data source": "data",
    "a task": "task",
}
PARTS = [section for section in KINDS.values() if section in build.SECTIONS]


class Page(NamedTuple):
    """A section of the README.

    Attributes:
        room: the folder of the package that its module belongs to.
        name: the module's name.
        module: the module's text.
        config: the text of a config file that uses the module.
        command: the command that trains with it, as words.
    """

    room: str
    name: str
    module: str
    config: str
    command: list[str]

    def get_config(self, variants):
        """The config that the page's second file makes."""
        scope = {}
        exec(compile(self.config, "README.md", "exec"), scope)
        return scope["get_config"](variants)


def read(what):
    (section,) = re.findall(rf"^## Adding {what}\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    room, name = re.search(r"`lfbm_jax/(\w+)/(\w+)\.py`", section).groups()
    module, config = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^```\n(python .*?)^```", section, re.DOTALL | re.MULTILINE)
    return Page(room, name, module, config, shlex.split(command.replace("\\\n", "")))


PAGES = {kind: read(what) for what, kind in KINDS.items()}


@pytest.fixture
def add(tmp_path, monkeypatch):
    """`add("prior")` makes that page's module importable from the package, and returns the page."""
    added = []

    def add(kind):
        page = PAGES[kind]
        package = importlib.import_module(f"lfbm_jax.{page.room}")
        folder = tmp_path / page.room
        folder.mkdir()
        (folder / f"{page.name}.py").write_text(page.module, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        importlib.invalidate_caches()
        added.append((package, page.name))
        return page

    yield add
    for package, name in added:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


def test_every_kind_of_part_has_a_page():
    headings = re.findall(r"^## Adding (.*)$", README, re.MULTILINE)
    assert headings == ["a part", *KINDS]
    assert {page.room for page in PAGES.values()} == {
        *(room for room, _ in build.SECTIONS.values()), "data", "tasks"
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_command_sets_what_a_config_has(kind, add):
    page = add(kind)
    (variants,) = re.findall(r"--config=configs/digits\.py:?(\S*)", " ".join(page.command))
    config = flat(experiment("digits", variants).to_dict())
    settings = [word.partition("=")[0] for word in page.command if word.startswith("--config.")]
    assert settings and {s.removeprefix("--config.") for s in settings} <= config.keys()


@pytest.mark.parametrize("section", PARTS)
def test_a_part_keeps_the_contract(section, add):
    name = add(section).name
    test_offered.test_a_part_offers_what_its_contract_names_and_nothing_else(section, name)
    test_offered.test_a_part_is_a_value(section, name)
    test_offered.test_smoke_settings_are_settings(section, name)
    if section == "objective":
        for masked in (False, True):
            test_contracts.test_objective(name, masked)
        return
    test_contracts.test_init_is_a_function_of_its_key_in_the_default_type(section, name)
    test_offered.test_every_public_method_of_a_part_is_called(section, name)
    test = {
        "prior": test_contracts.test_prior,
        "generator": test_contracts.test_generator,
        "inference": test_contracts.test_inference,
    }[section]
    for dtype in test_contracts.TOLERANCE:
        with jax.enable_x64(dtype == "float64"):
            test(name, np.dtype(dtype))


def test_the_prior_integrates_to_one_and_samples_from_its_density(add):
    name = add("prior").name
    test_contracts.test_normalized_prior_integrates_to_one_and_samples_from_its_density(name)


def test_a_mixture_of_none_is_refused(add):
    config = experiment("digits", f"prior={add('prior').name}")
    config.prior.num_components = 0
    with pytest.raises(UserError, match=r"prior\.num_components=0"):
        build.part(config, "prior", latent_dim=4)


def test_the_generator_is_its_formula_with_its_slopes(add):
    name = add("generator").name
    test_contracts.test_generator_gradients_are_its_slopes(name)
    test_contracts.test_generator_counts_its_operations(name)
    generator = build_part("generator", name)
    beta = perturbed(generator.init(jax.random.key(0)))
    first, last = (
        {k: np.asarray(v, float) for k, v in layer.items()}
        for _, layer in sorted(beta["params"].items())
    )
    z = np.linspace(-1, 1, 5)
    hidden = np.maximum(z @ first["kernel"] + first["bias"], 0)
    image = np.tanh(hidden @ last["kernel"] + last["bias"]).reshape(8, 8, 1)
    found = generator.apply(generator.prepare(beta), np.float32(z))
    np.testing.assert_allclose(found, image, atol=1e-5)


def test_the_inference_is_exact_at_a_coarse_step(add):
    """Eq. 8 alone, at this step size, would double the variance along the stiffest direction."""
    d, sigma, chains = 3, 0.8, 4000
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        beta = {"matrix": random.normal(size=(4, d)), "bias": random.normal(size=4)}
        x = random.normal(size=(2, 2, 1))
        mean, precision = posterior(beta, sigma, x)
        step_size = float(np.sqrt(2 / np.linalg.eigvalsh(precision)[-1]))
        inference = build.part_class("inference", add("inference").name)(d, 200, step_size)
        log_joint = linear_model(d, (2, 2, 1), sigma).log_joint(Parameters({}, beta, {}), x)
        infer = jax.jit(jax.vmap(lambda key: inference.infer({}, key, None, log_joint)))
        found = infer(jax.random.split(jax.random.key(0), chains))
        assert 0.3 < np.mean(found.info["acceptance"]) < 0.9
        white = np.linalg.cholesky(precision).T @ (np.asarray(found.z) - mean).T
        np.testing.assert_allclose(white.mean(axis=1), 0, atol=4.5 / np.sqrt(chains))
        np.testing.assert_allclose(np.cov(white), np.eye(d), atol=4.5 * np.sqrt(2 / chains))


def test_the_objective_is_linear_in_its_weight(add):
    """Weight 1 equals `variational` on the same draw of z."""
    page = add("objective")
    model = build.model(page.get_config("smoke"))
    prepared = model.prepare(jax.jit(model.init)(jax.random.key(0)))
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    example = Example(image, np.int32(0), np.float32(1))
    keys = Keys(jax.random.key(0), jax.random.key(1))
    objective = build.part_class("objective", page.name)

    @jax.jit
    def losses(prepared):
        weighted = (objective(weight) for weight in (1.0, 2.0, 4.0))
        return [one.loss(model, prepared, keys, example)
                for one in (variational.Objective(), *weighted)]

    plain, *found = losses(prepared)
    values = [float(loss.value) for loss in found]
    divergence = float(plain.value - plain.metrics["loss_generator"])
    assert min(abs(divergence), abs(plain.metrics["log_q"]), plain.metrics["loss_prior"]) > 0.1
    np.testing.assert_allclose(values[0], plain.value, rtol=1e-5)
    np.testing.assert_allclose(np.diff(values), [divergence, 2 * divergence], rtol=1e-3)
    with pytest.raises(UserError, match=r"objective\.weight=0"):
        objective(0)


@pytest.fixture
def pixel_table(tmp_path):
    """A CSV file as spreadsheets write it, and the images and labels in it."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 10
    path = tmp_path / "train.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"pixel{i}" for i in range(64))])
        writer.writerows([label, *image.ravel()] for image, label in zip(images, labels,
                                                                         strict=True))
    return path, images, labels


def test_the_data_source_gives_what_is_in_the_table(add, tmp_path, pixel_table):
    path, images, labels = pixel_table
    config = add("data").get_config("smoke")
    config.data.update({"dir": str(path), "cache_dir": str(tmp_path / "cache")})
    cache = data.prepare(config.data)
    found = np.concatenate([cache.train.images, cache.held_out.images])[..., 0]
    assert sorted(map(bytes, found)) == sorted(map(bytes, images))
    assert len(cache.held_out.images) == 4
    row = {bytes(image): label for image, label in zip(images, labels, strict=True)}
    assert [row[bytes(image[..., 0])] for image in cache.train.images] == list(cache.train.labels)


def test_the_data_source_refuses_other_tables(add, tmp_path, pixel_table):
    path, *_ = pixel_table
    config = add("data").get_config("smoke")
    config.data.update({"dir": str(path), "cache_dir": str(tmp_path / "cache")})
    whole = path.read_text()
    for text in (whole.replace("\n0,", "\n300,"), whole[:-20], "a,b,c\n1,2,3\n", "<html>\n<p>"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"train\.csv is no table of labels and square"):
            data.prepare(config.data)
    config.data.dir = str(tmp_path / "none")
    with pytest.raises(UserError, match="is not a file"):
        data.prepare(config.data)


# The settings that the second file of each page changes in configs/digits.py.
SETS = {
    "prior": {"prior.name": "gaussian_mixture", "prior.num_components": 20},
    "generator": {"generator.name": "mlp", "generator.hidden_width": 512},
    "inference": {"inference.name": "mala", "eval_inference.name": "mala"},
    "objective": {"objective.name": "beta_vae", "objective.weight": 2.0, "prior.name": "glow"},
    "data": {"data.source": "pixel_table", "data.test_fraction": 0.1},
    "task": {"tasks": (*experiment("digits").tasks, "memorized")},
}


@pytest.mark.parametrize("network", ["vae", "inference=encoder"])
def test_an_encoder_needs_no_layers_of_the_generator(network, add):
    config = experiment("digits", f"generator={add('generator').name},{network}")
    assert config.inference.layers == experiment("digits", network).inference.layers
    build.model(config)


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_config_of_a_page_builds(kind, add):
    config = add(kind).get_config("smoke")
    found = flat(config.to_dict())
    assert {key: found[key] for key in SETS[kind]} == SETS[kind]
    configuration.check(config)
    build.model(config)


def train(config, tmp_path):
    """Trains with a config; returns the model, its images and its work directory."""
    config.data.cache_dir = str(tmp_path / "cache")
    config.train.sample_every = 100
    run = tmp_path / "run"
    return trial.train_as(config, run), data.prepare(config.data), run


def test_prior_inference_data_source_and_task_of_the_pages_run_together(
    add, tmp_path, pixel_table
):
    prior, inference, source, task = map(add, ("prior", "inference", "data", "task"))
    parts = f"prior={prior.name},inference={inference.name},eval_inference={inference.name},smoke"
    config = experiment("digits", parts)
    config.data.update({"source": source.name, "name": "x", "dir": str(pixel_table[0])})
    config.tasks = (task.name,)
    config.eval_inference.num_steps = 3
    trained, images, run = train(config, tmp_path)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["train/acceptance"] <= 1
    mask = np.ones((8, 8))
    mask[:4] = 0
    assert trained.inpaint(images.train.images[:2], mask).shape == (2, 1, 8, 8, 1)

    _, paths = evaluate.evaluate(trained, images, run)
    assert run / "reports" / f"{task.name}_nearest.png" in paths
    found = json.loads((run / "reports" / f"{task.name}.json").read_text())["figures"]
    settings = config.task[task.name]
    samples = trained.sample(settings.num_images, config.seed, settings.batch_size).images
    held_out = from_uint8(images.held_out.spread(settings.num_images))
    for name, some in (("sample_distance", samples), ("held_out_distance", held_out)):
        differences = some[:, None] - from_uint8(images.train.images)
        distances = np.sqrt(np.mean(np.square(differences), axis=(2, 3, 4))).min(axis=1)
        assert found[name] == pytest.approx(np.median(distances), rel=1e-4)


def test_generator_and_objective_of_the_pages_train_with_an_encoder_in_bfloat16(add, tmp_path):
    generator, objective = map(add, ("generator", "objective"))
    variants = f"lfbm_vae,generator={generator.name},objective={objective.name},smoke"
    config = experiment("digits", variants)
    config.precision = "bfloat16"
    config.tasks = ()
    trained, _, run = train(config, tmp_path)
    assert trained.sample(4, seed=0).images.shape == (4, 8, 8, 1)
    assert "train/divergence" in json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
