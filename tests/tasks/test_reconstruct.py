"""Reconstruction: the figures against their definitions, and the split that the report names."""

import json

import jax
import numpy as np
import pytest

from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference import langevin
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.tasks import reconstruct
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model, posterior

D, SHAPE, SIGMA = 3, (6, 6, 1), 0.8
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(36, D)), "bias": RANDOM.normal(size=36)}
SHORT = langevin.Inference(D, num_steps=20, step_size=0.2)
# The posterior's precisions are 38 to 71: a step leaves at most 0.58 of the way to its mean.
CONVERGED = langevin.Inference(D, num_steps=200, step_size=0.15, noise=False)


@pytest.fixture
def run(tmp_path):
    """(cache) -> the task's figures and its report, what was inferred, and x."""

    def run(data, inference=SHORT):
        config = small_config()
        config.data.update({"image_size": 6, "channels": 1})
        config.model.latent_dim = D
        config.task.reconstruct.update({"num_images": 4, "batch_size": 3})
        rows = [0, 2, 4, 6]  # 4 of 9, spread.
        with jax.enable_x64(True):
            model = linear_model(D, SHAPE, SIGMA, None, inference)
            trained = TrainedModel(config, model, Parameters({}, BETA, {}), 0)
            writer = ReportWriter(tmp_path, "reconstruct", 0, config)
            figures = reconstruct.run(trained, data, config, writer)
            report = json.loads(writer.write(figures).read_text())
            scored = data.evaluated.images[rows]
            inferred = trained.infer(scored, config.seed)
        return figures, report, inferred, scored / 127.5 - 1

    return run


def images(seed):
    return np.random.default_rng(seed).integers(0, 256, (9, *SHAPE), dtype=np.uint8)


def test_figures(run, tmp_path):
    train = images(0)
    figures, _, inferred, x = run(Cache(Split(train, None), Split(images(1), None), tmp_path))
    residual = x - inferred.reconstruction
    log_p_z = -0.5 * np.sum(inferred.z**2, axis=1) - D / 2 * np.log(2 * np.pi)
    log_p_x = -0.5 * np.sum(residual**2, axis=(1, 2, 3)) / 0.8**2 - 18 * np.log(2 * np.pi * 0.8**2)
    expected = {
        "num_images": 4,
        "mse": np.mean(residual**2),
        "mse_of_mean_image": np.mean((x - (train / 127.5 - 1).mean(axis=0)) ** 2),
        "mean_log_p_x_given_z": log_p_x.mean(),
        "mean_log_p_z": log_p_z.mean(),
    } | {f"mean_{name}": values.mean() for name, values in inferred.info.items()}
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-9), name


def test_a_converged_chain_has_the_figures_of_the_posterior_mean(run, tmp_path):
    """There z is the mean, and the two gradients are -z and z."""
    train, test = images(0), images(1)
    figures, _, _, _ = run(Cache(Split(train, None), Split(test, None), tmp_path), CONVERGED)
    x = test[[0, 2, 4, 6]].reshape(4, 36) / 127.5 - 1
    z = np.stack([posterior(BETA, SIGMA, one)[0] for one in x])
    squares = np.square(x - z @ BETA["matrix"].T - BETA["bias"])
    norm = np.mean(np.linalg.norm(z, axis=1))
    expected = {
        "num_images": 4,
        "mse": np.mean(squares),
        "mse_of_mean_image": np.mean(np.square(x - train.reshape(9, 36).mean(axis=0) / 127.5 + 1)),
        "mean_log_p_x_given_z": -0.5 * np.mean(
            np.sum(squares / SIGMA**2 + np.log(2 * np.pi * SIGMA**2), axis=1)
        ),
        "mean_log_p_z": -0.5 * np.mean(np.sum(z**2 + np.log(2 * np.pi), axis=1)),
        "mean_norm_z": norm,
        "mean_grad_norm_log_prior": norm,
        "mean_grad_norm_log_likelihood": norm,
    }
    assert figures == pytest.approx(expected, rel=1e-12)  # A few thousand roundings.


@pytest.mark.parametrize(
    ("split", "named"), [(None, "train"), ("test", "test"), ("validation", "validation")]
)
def test_the_report_names_the_split_that_was_scored(run, tmp_path, split, named):
    held_out = None if split is None else Split(images(1), None, split)
    _, report, _, _ = run(Cache(Split(images(0), None, "train"), held_out, tmp_path))
    assert report["setup"]["split"] == named
    assert report["setup"]["range"] == "[-1, 1]"
