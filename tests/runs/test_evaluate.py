"""Evaluation covers both sets of parameters of a run: the last ones and their moving average."""

import json

import jax
import numpy as np
import pytest

from lfbm_jax.data import prepare
from lfbm_jax.runs import build, restore
from tests.builders import experiment


@pytest.fixture(scope="module")
def run(run_python, tmp_path_factory):
    """The work directory of a short run with averaged parameters, and its config."""
    folder = tmp_path_factory.mktemp("averaged")
    settings = {"data.cache_dir": str(folder / "cache"), "train.ema_decay": 0.9}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    run_python(
        ["-m", "lfbm_jax.main", "--config=configs/digits.py:smoke", f"--workdir={folder}", *flags]
    )
    config = experiment("digits", "smoke")
    config.update_from_flattened_dict(settings)
    return folder, config


def figures(folder, name):
    report = json.loads((folder / "reports" / f"{name}.json").read_text())
    return report["figures"], report["setup"]


def test_every_task_is_run_with_the_averaged_parameters_too(run):
    folder, config = run
    trained = restore.trained(config, build.model(config), folder)
    images = prepare(config.data).held_out.spread(config.task.reconstruct.num_images)
    for parameters, name in ((trained, "reconstruct"), (trained.averaged, "reconstruct_averaged")):
        inferred = parameters.infer(images, config.seed, config.task.reconstruct.batch_size)
        mse = np.mean((images / 127.5 - 1 - inferred.reconstruction) ** 2)
        assert figures(folder, name)[0]["mse"] == pytest.approx(mse, rel=1e-4)
    plain, averaged = (figures(folder, f"reconstruct{kind}") for kind in ("", "_averaged"))
    assert plain[0]["mse"] != averaged[0]["mse"]
    assert averaged[1]["parameters"] == "moving average, decay 0.9"
    index = (folder / "reports" / "index.md").read_text()
    assert "## generate, step 2" in index and "## generate_averaged, step 2" in index


def test_the_average_is_restored_with_the_checkpoint(run):
    folder, config = run
    built = build.model(config)
    first, last = (restore.trained(config, built, folder, step) for step in (1, 2))
    parameters = [jax.device_get(t._parameters) for t in (first, last, last.averaged)]
    # After two steps the weights are 0.9 and 1, divided by their sum.
    expected = jax.tree.map(lambda a, b: (0.9 * a + b) / 1.9, *parameters[:2])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        parameters[2],
        expected,
    )
