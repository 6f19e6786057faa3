"""Recovery of the training images: figures against their definitions, and a whole run."""

import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference import langevin
from lfbm_jax.metrics import fills
from lfbm_jax.model import Parameters
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import build, configuration
from lfbm_jax.tasks import recover
from lfbm_jax.trained.api import TrainedModel
from tests.builders import experiment, small_config
from tests.linear_gaussian import linear_model, posterior

D, SHAPE = 3, (6, 6, 1)


def test_figures_of_the_task(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    config = small_config()
    config.data.update({"image_size": 6, "channels": 1, "mask": "salt_and_pepper:0.5"})
    config.model.latent_dim = D
    config.task.recover.update({"num_images": 4, "batch_size": 3})
    with jax.enable_x64(True):
        inference = langevin.Inference(D, num_steps=20, step_size=0.2)
        model = linear_model(D, SHAPE, 0.8, inference, inference)
        beta = {"matrix": random.normal(size=(36, D)), "bias": random.normal(size=36)}
        trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
        writer = ReportWriter(tmp_path, "recover", 0, config)
        data = Cache(Split(images, None), None, tmp_path)
        figures = recover.run(trained, data, config, writer)
        rows = [0, 2, 4, 6]  # 4 of 9, spread.
        masks_of = functools.partial(masks.of_training_images, config)
        visible = masks_of(rows)
        recovered = trained.infer(images[rows], config.seed, masks=visible).reconstruction

    x = images[rows] / 127.5 - 1
    hidden = visible == 0
    expected = {
        "num_images": 4,
        "hidden_share": 0.5,
        "mse_hidden": np.mean((x - recovered)[hidden] ** 2),
        "mse_visible": np.mean((x - recovered)[~hidden] ** 2),
        # From all images, by their own masks; of their visible pixels only.
        "mse_hidden_of_mean_image": np.mean((x - fills.mean_image(images, masks_of))[hidden] ** 2),
        "mse_hidden_of_bilinear_fill": np.mean((x - fills.bilinear(x, visible))[hidden] ** 2),
        "mse_hidden_of_median_fill": np.mean((x - fills.median(x, visible))[hidden] ** 2),
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-9), name
    fill = (fills.bilinear(x, visible), fills.median(x, visible))
    shown = plots.stacked((x, x * visible, recovered, *fill))
    saved = np.asarray(Image.open(tmp_path / "reports" / "recover_recoveries.png"))
    np.testing.assert_array_equal(saved, shown)


def test_a_converged_chain_recovers_by_the_mean_given_the_visible_pixels(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    beta = {"matrix": random.normal(size=(36, D)), "bias": random.normal(size=36)}
    config = small_config()
    config.seed = 3
    config.data.update({"image_size": 6, "channels": 1, "mask": "random_box:3"})
    config.model.latent_dim = D
    config.task.recover.update({"num_images": 4, "batch_size": 3})
    # Precisions are 23 to 62: a step leaves at most 0.74 of the way to the mean.
    inference = langevin.Inference(D, num_steps=200, step_size=0.15, noise=False)
    with jax.enable_x64(True):
        model = linear_model(D, SHAPE, 0.8, inference, inference)
        trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
        writer = ReportWriter(tmp_path, "recover", 0, config)
        data = Cache(Split(images, None), Split(255 - images, None), tmp_path)
        figures = recover.run(trained, data, config, writer)

    x = images.reshape(9, 36) / 127.5 - 1
    seen = masks.parse("random_box:3", 6, "mask")(3, np.arange(9)).reshape(9, 36) == 1
    errors = {True: [], False: []}
    rows = [0, 2, 4, 6]  # 4 of 9, spread.
    for i in rows:
        visible = {name: values[seen[i]] for name, values in beta.items()}
        z, _ = posterior(visible, 0.8, x[i][seen[i]])
        squares = np.square(x[i] - beta["matrix"] @ z - beta["bias"])
        for kind, found in errors.items():
            found.extend(squares[seen[i] == kind])
    mean_image = np.mean(x, axis=0, where=seen)  # Some image shows each of these pixels.
    expected = {
        "num_images": 4,
        "hidden_share": 0.25,
        "mse_hidden": np.mean(errors[False]),
        "mse_visible": np.mean(errors[True]),
        "mse_hidden_of_mean_image": np.mean(np.square(x - mean_image)[rows], where=~seen[rows]),
    }
    assert seen.any(axis=0).all()
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_run_learns_from_occluded_images_and_shows_their_recovery(run_python, tmp_path):
    run = tmp_path / "run"
    command = ["-m", "lfbm_jax.main", "--config=configs/digits.py:mask=random_box:4,smoke"]
    command += [f"--workdir={run}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    run_python([*command, "--config.data.num_train=20", "--config.tasks=('recover',)"])
    kept = np.load(run / "masks.npy")
    assert kept.shape == (20, 8, 8, 1)
    np.testing.assert_array_equal((kept == 0).sum(axis=(1, 2, 3)), 16)
    report = json.loads((run / "reports" / "recover.json").read_text())
    assert report["setup"]["mask"] == "random_box:4" and report["setup"]["num_train"] == 20
    assert report["figures"]["hidden_share"] == 0.25
    for path in (run / "recoveries" / "00000002.png", run / "reports" / "recover_recoveries.png"):
        assert np.asarray(Image.open(path)).std() > 0


def test_an_encoder_that_learned_from_occluded_images_says_so():
    cases = {"vae,mask=random_box:4": True, "vae": False, "mask=random_box:4": False}
    for variants, said in cases.items():
        config = experiment("digits", variants)
        trained = TrainedModel(config, build.model(config), Parameters({}, {}, {}), 0)
        assert ("incapable" in trained.caveat.get("caveat", "")) == said


def test_recovery_needs_occluded_images():
    config = small_config()
    config.tasks = ("recover",)
    with pytest.raises(UserError, match=r"set data\.mask"):
        configuration.check(config)


@pytest.mark.parametrize(
    ("variants", "mask"),
    [
        ("salt_and_pepper=0.5", "salt_and_pepper:0.5"),
        ("square=30,lebm", "random_box:30"),
        ("prior=gaussian,square=40", "random_box:40"),
        ("mask=random_box:20", "random_box:20"),
    ],
)
def test_celeba_recovery_is_set_up_as_in_table_5(variants, mask):
    config = experiment("celeba64", variants)
    configuration.check(config)
    assert config.data.mask == mask and config.data.num_train == 10_000
    assert config.task.recover.num_images == 10_000
    assert config.tasks[0] == "recover"
