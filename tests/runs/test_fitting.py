"""Whole runs of models whose prior is fitted after training, or whose inference is tuned."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from lfbm_jax import data, learning
from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.runs import build, fitting, restore, train
from lfbm_jax.runs.workdir import read_config
from lfbm_jax.trained.api import TrainedModel
from tests import trial
from tests.builders import experiment


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("rae", marks=pytest.mark.slow),
        pytest.param("two_stage_vae", marks=pytest.mark.slow),
        pytest.param("sri", marks=pytest.mark.slow),
        "abp_then_flow",
    ],
)
def test_such_a_model_trains_with_pictures_and_a_log(variant, tmp_path):
    config = experiment("digits", f"{variant},smoke")
    config.data.cache_dir = str(tmp_path / "cache")
    config.train.sample_every = 1
    run = tmp_path / "run"
    assert trial.train_as(config, run).step == config.train.num_steps
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"train/mse", "sample/log_p_z"} <= line.keys()
    assert "sample/mismatch" not in line or variant == "sri", "two priors, compared"


@pytest.fixture(scope="module", params=["rae", "two_stage_vae"])
def halfway(request, tmp_path_factory):
    """A model with averaged parameters, stopped before its prior was fitted, and its images."""
    folder = tmp_path_factory.mktemp("halfway")
    config = experiment("digits", f"{request.param},smoke")
    config.data.cache_dir = str(folder / "cache")
    config.train.ema_decay = 0.5
    model, cache = build.model(config), data.prepare(config.data)
    state = learning.init_state(config, model)
    return TrainedModel(config, model, state.parameters, 1, state.average), cache


def test_an_unfitted_prior_is_neither_sampled_from_nor_asked_for_densities(halfway):
    trained, _ = halfway
    for ask in (lambda: trained.sample(2), lambda: trained.log_prior(np.zeros((2, 8)))):
        with pytest.raises(UserError, match="of step 1, is not fitted yet: finish training"):
            ask()


def test_evaluation_fits_what_is_not_fitted_and_the_average_to_its_own_z(halfway, tmp_path):
    trained, cache = halfway
    fitted = fitting.fitted(trained, cache)
    assert fitted.prior_is_fitted and fitted.averaged.prior_is_fitted
    assert fitting.fitted(fitted, cache) is fitted
    for one, other in ((fitted, trained), (fitted.averaged, trained.averaged)):
        assert np.isfinite(one.sample(2).images).all()
        beta = one.parameters.beta, other.parameters.beta
        jax.tree.map(np.testing.assert_array_equal, *beta)
    moved = jax.tree.map(lambda leaf: leaf + 0.1, trained.parameters.phi)
    parameters = trained.parameters._replace(phi=moved)
    apart = fitting.fitted(trained.with_parameters(trained.parameters, 1, parameters), cache)
    leaves = map(jax.tree.leaves, (apart.parameters.alpha, apart.averaged.parameters.alpha))
    assert any(np.any(one != other) for one, other in zip(*leaves, strict=True))


def test_a_longer_run_learns_on_with_the_prior_of_before_the_fit(halfway):
    """And a checkpoint on its way does not pass for fitted, nor does the average's prior."""
    trained, cache = halfway
    fitted = fitting.fitted(trained, cache)
    state = learning.init_state(trained.config, trained.model)
    state = state._replace(parameters=fitted.parameters, average=fitted.averaged.parameters)
    going_on = train._unfitted(state, trained.model)
    for parameters in (going_on.parameters, going_on.average):
        assert not trained.model.prior.is_fitted(parameters.alpha)
    assert train._unfitted(state._replace(average=None), trained.model).average is None


def test_a_run_that_is_made_shorter_keeps_the_prior_that_it_fits(tmp_path):
    """The checkpoint that it ends at was written on the way to more steps."""
    config = experiment("digits", "abp_then_flow,smoke")
    config.data.cache_dir = str(tmp_path / "cache")
    config.train.update({"num_steps": 2, "checkpoint_every": 1})
    run = tmp_path / "run"
    trial.train_as(config, run)
    shutil.rmtree(run / "checkpoints" / "2")
    config.train.num_steps = 1
    trained = trial.train_as(config, run)
    assert trained.step == 1 and trained.prior_is_fitted
    loaded = restore.trained(config, trained.model, run)
    jax.tree.map(np.testing.assert_array_equal, loaded.parameters, trained.parameters)


def test_every_epoch_draws_z_of_every_image_anew(halfway):
    trained, cache = halfway
    first, second = (fitting.inferred(trained, cache, epoch) for epoch in (0, 1))
    assert first.shape == second.shape == (len(cache.train.images), 8)
    assert np.any(first != second) == trained.config.inference.noise


@pytest.mark.parametrize("flip", [False, True])
def test_the_fit_sees_mirrored_images_if_training_does(flip):
    """A random half of them, another half in every epoch, and their masks with them."""
    config = experiment("digits", "abp_then_flow,mask=random_box:4").copy_and_resolve_references()
    config.data.horizontal_flip = flip
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    data = types.SimpleNamespace(train=types.SimpleNamespace(images=images))

    def infer(x, seed, masks, **settings):
        return types.SimpleNamespace(z=np.concatenate([x, masks], axis=-1))

    trained = types.SimpleNamespace(config=config, step=3, infer=infer)
    plain = infer(images, 0, masks.of_training_images(config, np.arange(40))).z
    mirrored = []
    for epoch in (0, 1):
        found = fitting.inferred(trained, data, epoch)
        same, other = (
            (found == seen).all(axis=(1, 2, 3)) for seen in (plain, plain[:, :, ::-1])
        )
        assert (same | other).all()
        mirrored.append(other & ~same)
    assert [5 < np.sum(m) < 35 for m in mirrored] == [flip, flip]
    assert np.any(mirrored[0] != mirrored[1]) == flip


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["rae", "two_stage_vae", "abp_then_flow", "sri_l5"])
def test_a_resumed_run_equals_an_uninterrupted_one(variant, run_python, tmp_path):
    def run(folder, num_steps):
        command = ["-m", "lfbm_jax.main", f"--config=configs/digits.py:{variant},smoke"]
        command += [f"--workdir={tmp_path / folder}", f"--config.train.num_steps={num_steps}"]
        command += [f"--config.data.cache_dir={tmp_path / 'cache'}"]
        run_python(command)
        run_python([*command, "--mode=sample", "--num=8"])

    run("whole", 2)
    whole = np.load(tmp_path / "whole" / "samples.npy")
    run("parts", 1)
    halfway = np.load(tmp_path / "parts" / "samples.npy")
    run("parts", 2)
    np.testing.assert_array_equal(np.load(tmp_path / "parts" / "samples.npy"), whole)
    assert np.any(halfway != whole)
    last = [
        json.loads((tmp_path / folder / "metrics.jsonl").read_text().splitlines()[-1])
        for folder in ("whole", "parts")
    ]
    timeless = [{k: v for k, v in line.items() if "time/" not in k} for line in last]
    assert timeless[0] == timeless[1]
    assert {"train/mse", "prior_fit/mmd"} <= timeless[0].keys()
    for task in read_config(tmp_path / "whole")["tasks"]:
        assert (tmp_path / "whole" / "reports" / f"{task}.json").exists()
