"""Interpolation: which images it joins, and the figures against their definitions."""

import json

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference import langevin
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import configuration
from lfbm_jax.tasks import interpolate
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model

D, SHAPE, STEPS = 3, (6, 6, 1), 5
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(36, D)) / 9, "bias": RANDOM.normal(size=36) / 9}
IMAGES = RANDOM.integers(0, 256, (8, *SHAPE), dtype=np.uint8)
LABELS = np.array([2, 2, 0, 0, 1, 7, 1, 7], np.int32)


@pytest.fixture
def run(tmp_path):
    """(labels, count) -> the task's figures, its report, and the model."""

    def run(labels, count):
        config = small_config()
        config.data.update({"image_size": 6, "channels": 1})
        config.model.latent_dim = D
        config.task.interpolate.update({"num_images": count, "num_steps": STEPS})
        chains = langevin.Inference(D, num_steps=20, step_size=0.2, noise=False)
        model = linear_model(D, SHAPE, 0.8, None, chains)
        trained = TrainedModel(config, model, Parameters({}, BETA, {}), 0)
        data = Cache(Split(IMAGES[::-1], None), Split(IMAGES, labels, "test"), tmp_path)
        writer = ReportWriter(tmp_path, "interpolate", 0, config)
        figures = interpolate.run(trained, data, config, writer)
        return figures, json.loads(writer.write(figures).read_text()), trained

    return run


@pytest.mark.parametrize(
    ("labels", "count", "rows"),
    (
        (LABELS, 10, [2, 4, 0, 5]),
        (LABELS, 3, [2, 4, 0]),
        (None, 4, [0, 2, 4, 6]),
        (LABELS * 0, 2, [0, 4]),
        (np.where(LABELS == 0, -1, LABELS), 10, [4, 0, 5]),
    ),
)
def test_each_image_turns_into_the_next_and_the_last_into_the_first(labels, count, rows, run):
    with jax.enable_x64(True):
        figures, report, trained = run(labels, count)
        starts, ends = IMAGES[rows], IMAGES[[*rows[1:], rows[0]]]
        paths = trained.interpolate(starts, ends, STEPS, trained.config.seed)
    steps = [
        np.sqrt(np.mean((path[i + 1] - path[i]) ** 2)) for path in paths for i in range(STEPS - 1)
    ]
    assert figures == pytest.approx(
        {"num_images": len(rows), "mean_step": np.mean(steps), "largest_step": max(steps)},
        rel=1e-9,
    )
    assert report["setup"]["split"] == "test"
    assert report["setup"]["pictures"] == ["interpolate_paths.png"]


def test_a_path_needs_two_images():
    for name in ("num_images", "num_steps"):
        config = small_config()
        config.tasks, config.task.interpolate[name] = ("interpolate",), 1
        with pytest.raises(UserError, match=f"task.interpolate.{name}=1: must be at least 2"):
            configuration.check(config)
