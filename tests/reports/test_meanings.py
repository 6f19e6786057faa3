"""Every figure and every metric has words."""

import json

import jax
import jax.numpy as jnp
import pytest

from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives.base import Keys
from lfbm_jax.reports import curves, meanings, numbers
from lfbm_jax.runs import build, experiment
from tests.builders import build_part, model_with_objective, modules
from tests.builders import experiment as config_of
from tests.linear_gaussian import linear_model

DIRECTIONS = ("", "lower", "higher")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a smoke run with every task."""
    folder = tmp_path_factory.mktemp("every_task")
    config = config_of("digits", "smoke").unlock()
    config.tasks = tuple(build.names("tasks"))
    config.data.cache_dir = str(folder / "cache")
    config.data.mask, config.data.exclude_labels = "salt_and_pepper:0.5", (1,)
    experiment.run(config.lock(), folder / "run")
    return folder / "run"


def has_words(figure):
    return meanings.of(figure).words != figure.replace("_", " ")


def drawn():
    return {name for chart in curves.CHARTS for name in chart.lines} | {*curves.NOT_DRAWN}


@pytest.mark.slow
def test_every_figure_of_every_task_has_a_meaning(run):
    figures = json.loads((run / "figures.json").read_text())["figures"]
    assert {name.split("/")[0] for name in figures} == {*build.names("tasks")}
    unknown = [name for name in figures if not has_words(name.partition("/")[2])]
    assert not unknown, f"reports/meanings.py has no line for {unknown}"
    page = (run / "reports" / "index.html").read_text()
    for task in build.names("tasks"):
        assert f"<h2>{meanings.heading(task)}, step 2" in page
        assert task in meanings.TASKS


@pytest.mark.slow
def test_every_metric_of_a_run_has_a_chart(run):
    metrics = curves.read(run)
    assert {"train/mse", "sample/log_p_z", curves.INFERRED, "prior_fit/mmd"} <= metrics.keys()
    assert metrics.keys() <= drawn()


@pytest.mark.parametrize("name", modules("inference"))
def test_every_diagnostic_of_inference_has_a_meaning_and_a_chart(name):
    inference = build_part("inference", name)
    model = linear_model(5, (8, 8, 1), 0.5, inference, inference)

    def infer(key, image):
        parameters = Parameters({}, model.generator.init(key), inference.init(key))
        example = Example(image, jnp.zeros((), int), jnp.ones(()))
        log_joint = model.log_joint(model.prepare(parameters), image)
        return inference.infer(parameters.phi, key, example, log_joint)

    found = jax.eval_shape(infer, jax.random.key(0), jnp.zeros((8, 8, 1)))
    for metric in found.info:
        assert has_words(f"mean_{metric}") and f"train/{metric}" in drawn()


@pytest.mark.parametrize("name", modules("objective"))
def test_every_metric_of_an_objective_has_a_chart(name):
    model = model_with_objective(name)

    def losses(key, image):
        prepared = model.prepare(model.init(key))
        example = Example(image, jnp.zeros((), int), jnp.ones(()))
        updates = model.objective.updates
        return [update.loss(model, prepared, Keys(key, key), example) for update in updates]

    for loss in jax.eval_shape(losses, jax.random.key(0), jnp.zeros((8, 8, 1))):
        assert {f"train/{metric}" for metric in loss.metrics} <= drawn()


def test_figures_whose_names_go_on():
    of = meanings.of
    assert of("fid").words == "Fréchet inception distance (FID) to the training images"
    assert of("fid_of_300_images").words == of("fid").words + " of 300 images"
    assert of("kid_stddev_with_other_weights").words.startswith(of("kid_stddev").words)
    assert of("gap_at_most_20").words.endswith("steps: 20")
    assert (of("gap_at_most_20").unit, of("fid_of_300_images").better) == ("nats", "lower")
    assert of("fidelity") == meanings.Meaning("fidelity"), "not a prefix, but another word"


def test_directions_are_few_and_yardsticks_known():
    for meaning in (*meanings.FIGURES.values(), *meanings.PREFIXES.values()):
        assert meaning.better in DIRECTIONS or meaning.better.startswith("near ")
        assert "|" not in meaning.words, "it would end a cell of a Markdown table"
    for (task, figure), (yardstick, _) in meanings.YARDSTICKS.items():
        assert task in build.names("tasks") and {figure, yardstick} <= meanings.FIGURES.keys()


@pytest.mark.parametrize(
    ("value", "text"),
    (
        (0.0415291, "0.04153"),
        (300.0, "300"),
        (10_000, "10,000"),
        (12_345.678, "12,346"),
        (-0.5, "-0.5"),
        (23.64, "23.64"),
        (0, "0"),
        (float("nan"), "-"),
    ),
)
def test_numbers_have_as_many_digits_as_a_reader_takes_in(value, text):
    assert numbers.shown(value) == text
