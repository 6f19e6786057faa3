"""The `:smoke` variant of every config, run from the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.builders import CONFIGS

# sri_l5 has the largest latent dimension, and digit=4 needs a label 4.
VARIANTS = {"mnist": "sri_l5,", "mnist_anomaly": "digit=4,"}
KEYS = ("train/loss_generator", "train/loss_prior", "train/mse", "time/images_per_second")


# These are another config with other data, another generator or larger images.
DERIVED = ("celebahq256", "cifar10_dense", "fashion_mnist", "image_folder")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in DERIVED else ()) for name in CONFIGS],
)
def test_smoke_run_fills_the_work_directory(name, run_python, tmp_path):
    command = ["-m", "lfbm_jax.main", f"--config=configs/{name}.py:{VARIANTS.get(name, '')}smoke"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    done = run_python(command)
    run = tmp_path / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line[key]) for line in lines for key in KEYS)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["1", "2"]
    assert list(run.glob("events.out.tfevents.*"))
    config = json.loads((run / "config.json").read_text())
    assert config["train"]["num_steps"] == 2
    for task in ("generate", "reconstruct"):
        report = json.loads((run / "reports" / f"{task}.json").read_text())
        assert report["step"] == 2
        assert report["setup"]["versions"]["jax"]
        assert task in (run / "reports" / "index.md").read_text()
    assert (run / "reports" / "index.html").read_text().count("<svg") > 5
    for path in [*run.glob("samples/*.png"), *run.glob("reconstructions/*.png")]:
        assert np.asarray(Image.open(path)).std() > 0
        assert str(path) in done.stdout
    assert len(list(run.glob("*/*.png"))) >= 4


@pytest.mark.slow
def test_sample_evaluate_and_describe_modes(run_python, tmp_path):
    command = ["-m", "lfbm_jax.main", "--config=configs/digits.py:smoke"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    trained = run_python(command)
    run_python([*command, "--mode=sample", "--num=7", "--step=1"])
    samples = np.load(tmp_path / "run" / "samples.npy")
    assert samples.shape == (7, 8, 8, 1)
    assert np.abs(samples).max() <= 1
    assert Image.open(tmp_path / "run" / "samples.png").mode == "RGB"

    run_python([*command, "--mode=evaluate", "--step=1"])
    report = json.loads((tmp_path / "run" / "reports" / "reconstruct.json").read_text())
    assert report["step"] == 1

    done = run_python([*command, "--mode=describe"])
    described = json.loads(done.stdout)
    total = sum(described[part]["parameters"] for part in ("prior", "generator", "inference"))
    for said in (done.stderr, trained.stdout):  # The table of parameters is kept out of the JSON.
        assert f"\nTotal: {total:,} -- {4 * total:,} bytes" in said
    assert described["prior"]["parameters"] > 0
    assert described["flops_per_training_step"] > 0

    # A finished run is not trained again, and its checkpoint does not fit a model of other shape.
    again = run_python(command)
    assert "already trained" in again.stdout and "Total: " not in again.stdout
    other = run_python([*command, "--config.model.latent_dim=9"], check=False)
    assert other.returncode == 2
    assert "model.latent_dim" in other.stderr
    assert "Traceback" not in other.stderr
    missing = run_python([*command, "--mode=sample", "--step=77"], check=False)
    assert missing.returncode == 2
    assert "which has 1, 2" in missing.stderr
