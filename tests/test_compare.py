"""The comparison of models: their configs, and the command line on made-up images."""

import json
import sys

import numpy as np
import pytest
from absl.testing import flagsaver

from lfbm_jax import main
from lfbm_jax.compare import BUDGET, TABLE_1, draw, plan, table
from lfbm_jax.reports import plots
from lfbm_jax.runs import cli, experiment, given


@pytest.fixture
def read_config(monkeypatch):
    """read_config(get, *flags) -> the config that `get` reads from the flags, and then(config)."""

    def read_config(get, *flags, then=lambda config: None):
        monkeypatch.setattr(sys, "argv", ["command", *flags])
        found = []
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            cli.run(lambda config: found.extend((config, then(config))), get)
        assert not ended.value.code
        return found

    return read_config


def test_a_run_without_a_picture_of_samples_has_an_empty_panel(tmp_path):
    place = tmp_path / "reconstructions" / "00000001.png"
    plots.save(np.zeros((4, 4, 3), np.uint8), place)
    panels = draw({"one": tmp_path}).axes
    assert [len(panel.images) for panel in panels] == [0, 1]


def test_models_share_generator_budget_and_overrides_and_a_process_reads_the_very_config(
    read_config, tmp_path
):
    overrides = {"train.num_steps": 7, "model.sigma": 0.123, "tasks": ("reconstruct",)}
    plain, runs = read_config(
        given.config,
        "--config=configs/celeba64.py",
        *(f"--config.{key}={value}" for key, value in overrides.items()),
        # The last model would have the default generator, and lfbm_vae another batch size.
        then=lambda config: plan(config, ["table1", "generator=convnet"], tmp_path),
    )
    assert [run.name for run in runs] == [*TABLE_1, "generator=convnet"]
    assert len({json.dumps(run.config.to_dict()) for run in runs}) == len(TABLE_1)
    for run in runs:
        assert run.config.generator.to_dict() == plain.generator.to_dict()
        assert [run.config.train[key] for key in BUDGET] == [plain.train[key] for key in BUDGET]
        assert run.config.train.num_steps == 7 and run.config.tasks == ("reconstruct",)
        experiment.claim(run.config, run.folder)
        there, _ = read_config(main._config, f"--workdir={run.folder}")
        assert repr(there.to_dict()) == repr(run.config.to_dict())
        assert there.is_locked == run.config.is_locked


def test_table_has_a_row_for_every_figure_of_any_model():
    found = table({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 0.5, "z": 3.0}}, "what is alike")
    assert "what is alike" in found
    rows = [line for line in found.splitlines() if line.startswith("|")]
    assert rows[0] == "| figure | a | b |"
    assert rows[2:] == ["| x | 1 | 0.5 |", "| y | 2 | - |", "| z | - | 3 |"]


@pytest.fixture
def compare(run_python, tmp_path):
    def run(models, *, check=True):
        command = ["-m", "lfbm_jax.compare", "--config=configs/digits.py:smoke"]
        command += [f"--config.data.cache_dir={tmp_path / 'cache'}", f"--models={models}"]
        command += ["--config.tasks=('reconstruct',)", f"--workdir={tmp_path / 'runs'}"]
        return run_python(command, check=check)

    return run


@pytest.mark.slow
def test_models_are_compared_and_taken_up_one_by_one(compare, tmp_path):
    folder = tmp_path / "runs"
    compare("prior=gaussian")
    first = json.loads((folder / "compare.json").read_text())
    # As an earlier version wrote it: with fewer settings, and costs beside the tasks' figures.
    path = folder / "prior-gaussian" / "figures.json"
    done = json.loads(path.read_text())
    del done["config"]["train"]["microbatch_size"]
    path.write_text(json.dumps(done))
    again = compare("prior=gaussian,prior=gaussian+inference=langevin")
    assert again.stdout.count("already done") == 1
    results = json.loads((folder / "compare.json").read_text())
    assert list(results) == ["prior=gaussian", "prior=gaussian+inference=langevin"]
    one, other = results.values()
    assert one == first["prior=gaussian"]
    # The langevin module's default is 20 steps, whereas the smoke run has 2.
    assert one["reconstruct/mse"] != other["reconstruct/mse"]
    assert one.keys() == other.keys()
    generator = json.loads((folder / "prior-gaussian" / "config.json").read_text())["generator"]
    features = [layer[0] for layer in generator["layers"]]
    sizes = zip([8, *features], features, (2, 4, 4), strict=False)
    assert one["parameters"] == sum(fan_in * out * k * k + out for fan_in, out, k in sizes)
    assert "| reconstruct/mse |" in (folder / "compare.md").read_text()
    assert (folder / "compare.png").stat().st_size > 1000
    page = (folder / "index.html").read_text()
    assert 'href="prior-gaussian/reports/index.html"' in page and "Reconstructions" in page
    assert (folder / "prior-gaussian" / "reports" / "index.html").exists()


def test_an_unknown_model_is_one_line_before_any_training(compare, tmp_path):
    done = compare("lfbm,lfbm+smok", check=False)
    assert done.returncode == 2
    assert "--models=lfbm+smok: config variant 'smok': did you mean 'smoke'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
