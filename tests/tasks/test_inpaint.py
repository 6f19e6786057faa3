"""Completions, compared with a posterior known in closed form."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.images import masks
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.pixels import to_uint8
from lfbm_jax.inference import langevin
from lfbm_jax.model import Parameters
from lfbm_jax.reports import plots
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import configuration
from lfbm_jax.tasks import inpaint
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model, posterior

D, SHAPE, SIGMA = 3, (4, 4, 3), 0.8
RANDOM = np.random.default_rng(0)
BETA = {"matrix": RANDOM.normal(size=(48, D)), "bias": RANDOM.normal(size=48)}
IMAGES = RANDOM.integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def trained(inference):
    config = small_config()
    config.model.latent_dim = D
    config.data.update({"image_size": SHAPE[0], "channels": SHAPE[2]})
    model = linear_model(D, SHAPE, SIGMA, inference, inference)
    return TrainedModel(config, model, Parameters({}, BETA, {}), 0)


def test_converged_completions_have_the_figures_of_the_means_given_visible_pixels(tmp_path):
    """All chains of an image end at one z: that of the visible pixels, or of all if allowed."""
    # Precisions are 32 to 103: a step leaves at most 0.64 of the way to the mean.
    model = trained(langevin.Inference(D, num_steps=200, step_size=0.15, noise=False))
    config = model.config
    config.task.inpaint.update(
        {"num_images": 3, "batch_size": 3, "num_completions": 2, "mask": "box:0,0,2,3"}
    )
    train = RANDOM.integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    data = Cache(Split(train, None), Split(IMAGES, None, "test"), tmp_path)
    figures = inpaint.run(model, data, config, ReportWriter(tmp_path, "inpaint", 0, config))

    rows = [0, 1, 3]  # 3 of 5, spread.
    x, train = IMAGES[rows].reshape(3, 48) / 127.5 - 1, train.reshape(9, 48) / 127.5 - 1
    hidden = np.zeros(SHAPE, bool)
    hidden[:2, :3] = True
    seen = ~hidden.ravel()
    of_visible, of_all, nearest = [], [], []
    for one in x:
        visible = {name: values[seen] for name, values in BETA.items()}
        for found, mean in (
            (of_visible, posterior(visible, SIGMA, one[seen])[0]),
            (of_all, posterior(BETA, SIGMA, one)[0]),
        ):
            found.append(np.square(one - BETA["matrix"] @ mean - BETA["bias"]))
        (near,) = train[[np.argmin(np.sum(np.square(train - one)[:, seen], axis=1))]]
        nearest.append(np.square(one - near))
    mse_hidden = np.mean(np.array(of_visible)[:, ~seen])
    expected = {
        "num_images": 3,
        "num_completions": 2,
        "hidden_share": 6 / 16,
        "mse_hidden": mse_hidden,
        "mse_hidden_of_mean_completion": mse_hidden,
        "mse_hidden_of_mean_image": np.mean(np.square(x - train.mean(axis=0))[:, ~seen]),
        "mse_hidden_of_nearest_image": np.mean(np.array(nearest)[:, ~seen]),
        "mse_visible": np.mean(np.array(of_visible)[:, seen]),
        "mse_of_reconstruction": np.mean(of_all),
    }
    assert figures.pop("diversity") < 1e-12
    assert figures == pytest.approx(expected, rel=1e-12)


def test_figures_and_picture_of_the_task(tmp_path, monkeypatch):
    model = trained(langevin.Inference(D, num_steps=20, step_size=0.2))
    config = model.config
    settings = {"num_images": 4, "batch_size": 3, "num_completions": 3, "mask": "random_box:2"}
    config.task.inpaint.update(settings)
    config.metrics.inception_weights = "weights.pth"
    measured = []

    def measure(config, data, images, num_images):
        measured.extend([np.concatenate(list(images)), num_images])
        return {"fid": 7.0}, {"fid_network": "a double"}

    monkeypatch.setattr(inpaint.fid, "measure", measure)
    train = RANDOM.integers(0, 256, (9, *SHAPE), dtype=np.uint8)
    data = Cache(Split(train, None), Split(IMAGES, None, "test"), tmp_path)
    writer = ReportWriter(tmp_path, "inpaint", 0, config)
    figures = inpaint.run(model, data, config, writer)

    rows = [0, 1, 2, 3]  # 4 of 5, spread.
    x, train = IMAGES[rows] / 127.5 - 1, train / 127.5 - 1
    visible = masks.parse("random_box:2", 4, "mask")(config.seed, rows)
    hidden, seen = np.broadcast_to(visible == 0, x.shape), np.broadcast_to(visible, x.shape) == 1
    decoded = np.stack(
        [
            model.infer(IMAGES[rows], config.seed, masks=visible, chain=i).reconstruction
            for i in range(3)
        ]
    )
    distances = np.sum(visible[:, None] * (x[:, None] - train[None]) ** 2, axis=(2, 3, 4))
    nearest = train[distances.argmin(axis=1)]
    whole = model.infer(IMAGES[rows], config.seed).reconstruction
    expected = {
        "num_images": 4,
        "num_completions": 3,
        "hidden_share": 0.25,
        "mse_hidden": np.mean((decoded - x)[:, hidden] ** 2),
        "mse_hidden_of_mean_completion": np.mean((decoded.mean(axis=0) - x)[hidden] ** 2),
        "mse_hidden_of_mean_image": np.mean((train.mean(axis=0) - x)[hidden] ** 2),
        "mse_hidden_of_nearest_image": np.mean((nearest - x)[hidden] ** 2),
        "mse_visible": np.mean((decoded - x)[:, seen] ** 2),
        "mse_of_reconstruction": np.mean((whole - x) ** 2),
        "diversity": np.sqrt(np.mean(decoded.var(axis=0, ddof=1)[hidden])),
        "fid": 7.0,
    }
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-9), name
    assert figures["diversity"] > 0.1

    completed, count = measured
    np.testing.assert_array_equal(completed, to_uint8(np.where(hidden, decoded[0], x)))
    assert count == 4

    # One row per image: the original, its visible part, completions that keep this part.
    (path,) = writer.pictures
    assert path.name == "inpaint_completions.png"
    columns = [x, x * visible, *(np.where(hidden, one, x) for one in decoded)]
    cells = np.stack(columns, axis=1).reshape(-1, *SHAPE)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), plots.grid(cells, 5))
    setup = json.loads(writer.write(figures).read_text())["setup"]
    assert setup["split"] == "test" and setup["mask"] == "random_box:2"
    assert setup["inference"]["num_steps"] == 20
    assert setup["fid_network"] == "a double"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"mask": "center_box:99"}, "task.inpaint.mask='center_box:99'"),
        ({"mask": ""}, "task.inpaint.mask=''"),
        ({"num_completions": 1}, "task.inpaint.num_completions=1"),
    ],
)
def test_mistakes_end_before_training(setting, named):
    config = small_config()
    config.tasks = ("inpaint",)
    config.task.inpaint.num_completions = 2
    configuration.check(config)
    config.task.inpaint.update(setting)
    with pytest.raises(UserError, match=named):
        configuration.check(config)
