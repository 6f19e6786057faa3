"""Experiments by name: the same configs as from their files, on every command line."""

import sys

import pytest
from absl.testing import flagsaver

from lfbm_jax.errors import UserError
from lfbm_jax.runs import cli, config_files, given
from tests.builders import CONFIGS, ROOT, experiment


def test_all_experiments_have_a_name():
    assert config_files.names() == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_name_and_file_give_the_same_config(name):
    by_name = config_files.get_config(f"{name}:smoke")
    by_file = config_files.get_config(f"{ROOT}/configs/{name}.py:smoke")
    assert by_name.is_locked
    assert by_name.to_dict() == by_file.to_dict() == experiment(name, "smoke").to_dict()


def test_files_inside_the_package_come_first(tmp_path, monkeypatch):
    """A wheel holds them there; nothing beside the package is read then."""
    (tmp_path / "mine.py").write_text("def get_config(variants=''):\n    return variants or 'none'")
    monkeypatch.setattr(config_files, "INSTALLED", tmp_path)
    assert config_files.names() == ["mine"]
    assert config_files.get_config("mine") == "none"
    assert config_files.get_config("mine:a,b=1") == "a,b=1"


def test_what_is_no_experiment_is_refused():
    for given_name, message in (
        ("svnh:smoke", "config 'svnh': did you mean 'svhn'"),
        ("configs/nothing.py:smoke", r"config 'configs/nothing\.py': no such file"),
        ("configs", "use one of celeba64, "),
        ("", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            config_files.get_config(given_name)


def test_only_the_experiment_of_a_command_line_is_replaced():
    svhn = f"{ROOT}/configs/svhn.py"
    words = ["main", "svhn", "--config=svhn:lebm,smoke", "--config.seed=1", "--workdir=svhn"]
    assert config_files.in_command(words) == [
        "main", "svhn", f"--config={svhn}:lebm,smoke", "--config.seed=1", "--workdir=svhn"
    ]  # fmt: skip
    assert config_files.in_command(["main", "--config", "svhn"]) == ["main", "--config", svhn]
    for words in (["main", "--config=a/svhn.py:smoke"], ["main", "--config"], ["svhn.py"]):
        assert config_files.in_command(words) == words


def test_commands_take_names(capsys):
    found = []
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(found.append, given.config, ["command", "--config=digits:smoke"])
    assert not ended.value.code
    assert [config.to_dict() for config in found] == [experiment("digits", "smoke").to_dict()]
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(found.append, given.config, ["command", "--config=digit"])
    assert ended.value.code == 2
    assert "did you mean 'digits'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    (
        ("train.num_step=5", "--config.train.num_step: config.train has no setting 'num_step'"),
        ("train.restarts=5", "config.train has no setting 'restarts': use one of batch_size, "),
        ("tran.num_steps=5", "config has no setting 'tran': did you mean 'train'?"),
    ),
)
def test_a_setting_that_does_not_exist_is_named(flag, message, capsys, monkeypatch):
    # ml_collections reads the process's own command line.
    words = ["command", "--config=digits:smoke", f"--config.{flag}"]
    monkeypatch.setattr(sys, "argv", words)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        cli.run(print, given.config)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_setting_without_a_config_asks_for_one(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command", "--config.seed=1"])
    with flagsaver.flagsaver(), pytest.raises(SystemExit):
        cli.run(print, given.config)
    assert "--config.seed: add --config=EXPERIMENT" in capsys.readouterr().err
