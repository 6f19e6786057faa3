"""`lfbm_jax.train`, the notebook, and the page that describes the interface."""

import json
import re

import jax
import numpy as np
import pytest

import lfbm_jax
from lfbm_jax.errors import UserError
from tests import api_page, trial
from tests.builders import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_names_its_functions():
    assert set(lfbm_jax.__all__) <= set(dir(lfbm_jax))
    assert set(lfbm_jax.__all__) == set(lfbm_jax._PUBLIC) == set(api_page.FUNCTIONS)
    for name in lfbm_jax.__all__:
        assert getattr(lfbm_jax, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'save'"):
        _ = lfbm_jax.save


@pytest.mark.slow
def test_training_by_a_call_is_training_by_the_command(tmp_path, run_python):
    """To the bit, resuming included, and without a change to the settings of the process."""
    before = jax.config.values.copy()
    folder = tmp_path / "called" / "run"
    config = trial.config_of(folder, **{"train.num_steps": 9})
    first = lfbm_jax.train(config, folder)
    assert first.step == 9 and (folder / "figures.json").exists()
    config = trial.config_of(folder, **{"train.num_steps": 18})
    model = lfbm_jax.train(config, str(folder))
    assert model.step == 18
    assert jax.config.values == before

    commanded = tmp_path / "commanded" / "run"
    run_python(trial.arguments(commanded, **{"train.num_steps": 18}))
    expected = lfbm_jax.load(commanded)
    jax.tree.map(np.testing.assert_array_equal, model.parameters, expected.parameters)


def test_what_is_no_config_is_refused(tmp_path):
    for config, message in (
        ("digit:smoke", "did you mean 'digits'"),
        ({"seed": 0}, r"config of type dict: .* lfbm_jax\.get_config"),
    ):
        with pytest.raises(UserError, match=message):
            lfbm_jax.train(config, tmp_path / "run")
    config = lfbm_jax.get_config("digits:smoke")
    config.train.batch_size = 0
    with pytest.raises(UserError, match=r"train\.batch_size=0"):
        lfbm_jax.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def notebook():
    return json.loads((ROOT / "launch" / "quickstart.ipynb").read_text(encoding="utf-8"))


def code(notebook):
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def test_the_notebook_holds_the_example_of_the_front_page(notebook):
    (example,) = re.findall(r"```python\n(.*?lfbm_jax\.load.*?)```", README, flags=re.DOTALL)
    lines = [line for line in example.splitlines() if line and "lfbm_jax.load(" not in line]
    comment = next(line for line in lines if line.startswith("# Images"))
    texts = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert comment.removeprefix("# ") in texts
    there = [line for cell in code(notebook) for line in cell.splitlines()]
    assert [line for line in there if line in lines] == [x for x in lines if x != comment]


def test_the_notebook_is_stored_without_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")


@pytest.mark.slow
def test_the_notebook_runs(notebook, tmp_path, monkeypatch, capsys):
    """Its cells in one scope, in order, with a model of two steps."""
    monkeypatch.chdir(tmp_path)
    cells = code(notebook)
    (number,) = (i for i, cell in enumerate(cells) if "lfbm_jax.train(" in cell)
    cells[number] = cells[number].replace('"digits"', '"digits:smoke"')
    scope = {}
    for i, cell in enumerate(cells):
        exec(compile(cell, f"cell {i}", "exec"), scope)
    assert scope["model"].step == 2
    assert scope["completions"].shape == (8, 5, 8, 8, 1)
    printed = capsys.readouterr().out
    assert float(re.search(r"the same images: (\S+)", printed)[1]) < 1e-5


def test_the_page_of_the_interface_is_what_the_docstrings_say():
    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.page(), (
        "run python -m tests.api_page"
    )


@pytest.mark.parametrize(("name", "module"), api_page.FUNCTIONS.items())
def test_the_page_describes_every_argument_and_what_is_raised(name, module):
    section = api_page.page().split(f"## lfbm_jax.{name}\n")[1].split("\n## ")[0]
    for argument in api_page.definition(module, name).args.args:
        assert f"- `{argument.arg}`: " in section
    assert "- `UserError`: " in section
