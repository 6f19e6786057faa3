"""One run: when it counts as done, and which files it leaves."""

import json
import math
import types

import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.runs import experiment, recorded, workdir
from tests import trial
from tests.builders import CONFIGS
from tests.builders import experiment as config_of

SETTINGS = {
    "train.num_steps": 3,
    "train.log_every": 3,
    "train.checkpoint_every": 3,
    "train.ema_decay": 0.5,
    "tasks": ("reconstruct",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The config and the work directory of a finished run."""
    folder = tmp_path_factory.mktemp("experiment") / "run"
    config = trial.config_of(folder, **SETTINGS)
    experiment.run(config, folder)
    return config, folder


def test_a_run_is_done_once_all_its_figures_stand_in_one_file(run):
    config, folder = run
    expected = {}
    for name in ("reconstruct", "reconstruct_averaged"):
        report = json.loads((folder / "reports" / f"{name}.json").read_text())
        expected |= {f"{name}/{figure}": value for figure, value in report["figures"].items()}
    assert experiment.figures(config, folder) == expected
    assert expected["reconstruct/mse"] != expected["reconstruct_averaged/mse"]


@pytest.mark.parametrize(
    "changes",
    ({"seed": 1}, {"train.num_steps": 4}, {"tasks": ()}, {"task.reconstruct.num_images": 3}),
)
def test_a_run_of_any_other_config_is_not_done(run, changes):
    config, folder = run
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict(changes)
    assert experiment.figures(other, folder) is None


def test_a_run_that_crashed_before_its_last_report_is_not_done(tmp_path, monkeypatch, capsys):
    """The next start loads the trained model and only evaluates it."""
    folder = tmp_path / "run"
    config = trial.config_of(folder, **SETTINGS)

    def crash(*_):
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(experiment.evaluate, "index", types.SimpleNamespace(write=crash))
        with pytest.raises(RuntimeError):
            experiment.run(config, folder)
    assert (folder / "reports" / "reconstruct.json").exists()
    assert "the device is gone" in (folder / "crash.json").read_text()
    assert experiment.figures(config, folder) is None
    experiment.run(config, folder)
    assert "already trained" in capsys.readouterr().out
    assert experiment.figures(config, folder)


def test_figures_of_an_earlier_version_count_where_only_newer_settings_are_missing(run, tmp_path):
    config, _ = run
    done = {"config": workdir.plain(config), "figures": {"reconstruct/mse": 1.0}}
    del done["config"]["train"]["ema_decay"], done["config"]["objective"]
    path = tmp_path / recorded.FIGURES
    path.write_text(json.dumps(done))
    older = config.copy_and_resolve_references()
    older.train.ema_decay = 0.0
    assert experiment.figures(older, tmp_path) == done["figures"]
    assert experiment.figures(config, tmp_path) is None
    for damaged in ("{", "[]", "{}", '{"config": {}, "figures": 1}'):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"figures\.json is damaged"):
            experiment.figures(config, tmp_path)


def test_costs_are_added_to_the_figures(run):
    config, folder = run
    before = experiment.figures(config, folder)
    found = experiment.add_costs(config, folder)
    assert experiment.figures(config, folder) == found
    assert {name: found[name] for name in before} == before
    added = {name: value for name, value in found.items() if name not in before}
    networks = experiment.describe(config, experiment.build.model(config))
    assert added.pop("parameters") == sum(
        networks[name]["parameters"] for name in ("prior", "generator", "inference")
    )
    assert set(added) == {
        "time/milliseconds_to_sample", "time/milliseconds_to_infer", "time/minutes_per_epoch"
    }
    assert all(0 < value < math.inf for value in added.values())
    other = config.copy_and_resolve_references()
    other.seed = 1
    with pytest.raises(UserError, match="no finished run of this config"):
        experiment.add_costs(other, folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_claimed_folder_holds_the_very_config(name, tmp_path):
    """The config that `lfbm_jax.main --workdir=FOLDER` reads has the same values and types."""
    for variants in ("", "lfbm_vae", "lebm,smoke", "persistent", "rae", "sri_l5", "mask=png:a.png"):
        config = config_of(name, variants)
        folder = tmp_path / variants.replace("/", "-")
        experiment.claim(config, folder)
        assert repr(workdir.load_config(folder).to_dict()) == repr(config.to_dict())


def test_a_run_in_training_is_left_alone(tmp_path):
    """Neither a refused command nor one that only reads changes what its restart will do."""
    folder = tmp_path / "run"
    config = trial.config_of(folder, **SETTINGS)
    experiment.run(config, folder)
    shorter = config.copy_and_resolve_references()
    shorter.train.num_steps = 1
    before = (folder / "config.json").read_bytes()
    with workdir.lock(folder):  # as the training process does
        for claim in (experiment.run, experiment.claim):
            with pytest.raises(UserError, match="another run is training there"):
                claim(shorter, folder)
        experiment.claim(config, folder)
        experiment.evaluated(shorter, folder)
        experiment.restored(shorter, folder)
        assert (folder / "config.json").read_bytes() == before
    experiment.claim(shorter, folder)
    assert workdir.load_config(folder).train.num_steps == 1


def test_the_lock_is_held_until_the_last_report(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    held = []

    def evaluate(*_):
        with pytest.raises(UserError, match="another run"):
            workdir.lock(folder)
        held.append(True)
        return {}, []

    monkeypatch.setattr(experiment.evaluate, "evaluate", evaluate)
    experiment.run(trial.config_of(folder, **SETTINGS), folder)
    assert held
    workdir.lock(folder).close()


def test_a_task_that_cannot_use_the_images_is_refused_before_training(tmp_path):
    folder = tmp_path / "run"
    config = trial.config_of(folder, **SETTINGS)
    config.update_from_flattened_dict({"tasks": ("reconstruct", "prior_fit")})
    config.task.prior_fit.num_images = 5
    with pytest.raises(UserError, match="task prior_fit needs 11 held-out images, there are 5"):
        experiment.run(config, folder)
    assert not folder.exists()
