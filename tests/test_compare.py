"""The comparison of models, through the command line, on made-up images."""

import json

import pytest

from lfbm_jax.compare import table


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
    again = compare("prior=gaussian,prior=gaussian+inference=langevin")
    assert again.stdout.count("done before") == 1
    results = json.loads((folder / "compare.json").read_text())
    assert list(results) == ["prior=gaussian", "prior=gaussian+inference=langevin"]
    one, other = results.values()
    assert one == first["prior=gaussian"]
    # The langevin module's own settings are 20 steps, where the smoke run has 2.
    assert one["reconstruct/mse"] != other["reconstruct/mse"]
    assert one.keys() == other.keys()
    generator = json.loads((folder / "prior-gaussian" / "config.json").read_text())["generator"]
    features = [layer[0] for layer in generator["layers"]]
    sizes = zip([8, *features], features, (2, 4, 4), strict=False)
    assert one["parameters"] == sum(fan_in * out * k * k + out for fan_in, out, k in sizes)
    assert "| reconstruct/mse |" in (folder / "compare.md").read_text()
    assert (folder / "compare.png").stat().st_size > 1000


def test_an_unknown_model_is_one_line_before_any_training(compare, tmp_path):
    done = compare("lfbm,lfbm+smok", check=False)
    assert done.returncode == 2
    assert "--models=lfbm+smok: config variant 'smok': did you mean 'smoke'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
