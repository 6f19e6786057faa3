"""An objective with its own networks and updates is one file; everything else follows from it."""

import dataclasses
import functools
import importlib
import pathlib
import shutil
import sys

import jax
import numpy as np
import optax
import pytest

from lfbm_jax import learning, objectives
from lfbm_jax.costs.describe import describe, parameter_table
from lfbm_jax.devices import sharding
from lfbm_jax.inference import langevin
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Parameters
from lfbm_jax.runs import build
from tests import test_contracts, trial
from tests.builders import experiment, small_config
from tests.linear_gaussian import LinearGenerator, linear_model

NAME = "adversarial"
D, SHAPE, BATCH, REAL = 3, (2, 3, 1), 4, 3


@pytest.fixture(autouse=True)
def _installed(tmp_path, monkeypatch):
    """The file beside this one, as if it were in the package."""
    folder = tmp_path / "objectives"
    folder.mkdir()
    shutil.copy(pathlib.Path(__file__).with_name(f"{NAME}.py"), folder)
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(folder)])
    importlib.invalidate_caches()
    yield
    sys.modules.pop(f"lfbm_jax.objectives.{NAME}", None)
    vars(objectives).pop(NAME, None)


@pytest.mark.parametrize("masked", [False, True])
def test_it_keeps_the_contract(masked):
    test_contracts.test_objective(NAME, masked)


def test_iterations_are_the_updates_in_turn():
    """Two steps of the energy, then one of generator and statistic, from their closed forms.

    Optax's own Adam, with rates that follow the iteration; constants stay the same bit for bit.
    """
    rates = {"generator": 1e-2, "objective": 3e-2}
    config = small_config()
    config.seed = 5
    for section, rate in rates.items():
        settings = {"learning_rate": rate, "decay_per_epoch": 0.5}
        config.optimizer[section].update(settings)
    config.train.ema_decay = 0.9
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, BATCH, *SHAPE), dtype=np.uint8)
    index = np.stack([random.permutation(100)[:BATCH] for _ in range(2)]).astype(np.int32)
    weight = np.broadcast_to(np.arange(BATCH) < REAL, (2, BATCH)).astype(np.float32)
    with jax.enable_x64(True):
        model = linear_model(D, SHAPE, 0.5, None, None)
        part = build.part_class("objective", NAME)(D, SHAPE)
        model = dataclasses.replace(model, objective=part)
        beta = {"matrix": random.normal(size=(6, D)), "bias": random.normal(size=6)}
        psi = {"energy": random.normal(size=6), "statistic": random.normal(size=(6, D))}
        phi = {"unused": random.normal(size=2)}
        first = learning.first_state(config, Parameters({}, beta, phi, psi))
        update = learning.make_update(config, model, steps_per_epoch=1)
        devices = jax.local_device_count()
        batches = jax.tree.map(
            lambda a: a.reshape(2, devices, -1, *a.shape[2:]).swapaxes(0, 1),
            Example(images, index, weight),
        )
        state, metrics = update(sharding.replicate(first), batches, np.int32(2))
        state, metrics = jax.device_get((state, metrics))

        groups = {"generator": beta, "energy": psi["energy"], "statistic": psi["statistic"]}
        adams = {name: optax.scale_by_adam(0.5, 0.999) for name in groups}
        memories = {name: adams[name].init(group) for name, group in groups.items()}

        def descend(name, gradient, iteration):
            change, memories[name] = adams[name].update(gradient, memories[name])
            rate = rates.get(name, rates["objective"]) * 0.5**iteration
            groups[name] = jax.tree.map(lambda p, d: p - rate * np.asarray(d), groups[name], change)

        def draws(iteration, number):
            """z of the examples of weight one, and their samples."""
            keys = [key_for(5, Purpose.PRIOR_LOSS, iteration, i, number) for i in index[iteration]]
            z = np.stack([jax.random.normal(key, (D,)) for key in keys[:REAL]])
            return z, z @ groups["generator"]["matrix"].T + groups["generator"]["bias"]

        for iteration in range(2):
            x = images[iteration, :REAL].reshape(REAL, -1) / 127.5 - 1
            for number in range(2):
                _, samples = draws(iteration, number)
                w = groups["energy"]
                value = np.mean((x - samples) @ w) + 0.5 * w @ w
                descend("energy", np.mean(x - samples, axis=0) + w, iteration)
            assert metrics["loss_energy"][iteration] == pytest.approx(value, rel=1e-9)
            z, samples = draws(iteration, 2)
            s = groups["statistic"]
            slopes = groups["energy"] - z @ s.T
            of_generator = {"matrix": slopes.T @ z / REAL, "bias": slopes.mean(axis=0)}
            of_statistic = s - samples.T @ z / REAL
            descend("generator", of_generator, iteration)
            descend("statistic", of_statistic, iteration)
            norm = np.linalg.norm(of_statistic)
            assert metrics["grad_norm_statistic"][iteration] == pytest.approx(norm, rel=1e-9)

    def close(found, expected):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    jax.tree.map(close, state.parameters.beta, groups["generator"])
    jax.tree.map(close, state.parameters.psi, {name: groups[name] for name in psi})
    np.testing.assert_array_equal(state.parameters.phi["unused"], phi["unused"])
    counts = {name: int(s["adam"].count) for name, s in state.opt_state.groups().items()}
    expected = {"prior": 0, "generator": 2, "inference": 0, "energy": 4, "statistic": 2}
    assert counts == expected
    assert jax.tree.structure(state.average) == jax.tree.structure(state.parameters)
    assert "grad_norm_inference" not in metrics


def test_an_update_takes_no_gradient_that_it_does_not_use():
    """The energy's update leaves the generator alone; that of the generator does not."""
    backward = []

    @jax.custom_vjp
    def watched(beta):
        return beta

    watched.defvjp(lambda beta: (beta, None), lambda _, slope: (backward.append(1), (slope,))[1])

    class Watched(LinearGenerator):
        def apply(self, prepared, z):
            return super().apply(watched(prepared), z)

    part = build.part_class("objective", NAME)

    class EnergyAlone(part):
        @property
        def updates(self):
            return super().updates[:1]

    for objective, expected in ((EnergyAlone(D, SHAPE), False), (part(D, SHAPE), True)):
        generator = Watched(D, SHAPE)
        model = linear_model(D, SHAPE, 0.5, langevin.Inference(D))
        model = dataclasses.replace(model, objective=objective, generator=generator)
        shape = (jax.local_device_count(), 1, BATCH)
        images = np.zeros((*shape, *SHAPE), np.uint8)
        batch = Example(images, np.zeros(shape, np.int32), np.ones(shape, np.float32))
        first = jax.eval_shape(functools.partial(learning.init_state, small_config(), model))
        learning.make_update(small_config(), model, 1).lower(first, batch, np.int32(1))
        assert bool(backward) == expected


def settings(**changes):
    config = experiment("digits", f"objective={NAME},smoke")
    few = {"train.num_steps": 6, "train.checkpoint_every": 3}
    config.update_from_flattened_dict(trial.SETTINGS | few | changes)
    return config


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Bit for bit, its networks and their optimizers included, whose figures are logged."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for run, changes in ((whole, {}), (parts, {"train.num_steps": 3}), (parts, {})):
        config = settings(**changes)
        config.data.cache_dir = str(tmp_path / "cache")
        trained = trial.train_as(config, run)
    assert trial.steps(parts) == trial.steps(whole) == [3, 6]
    assert trial.metrics(parts)[-1] == trial.metrics(whole)[-1]
    states = [trial.state_as(config, run) for run in (whole, parts)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    begun = build.model(config).objective.init(jax.random.key(0))
    assert jax.tree.structure(states[0].parameters.psi) == jax.tree.structure(begun)
    assert int(states[0].opt_state.psi["energy"]["adam"].count) == 12
    last = trial.metrics(whole)[-1]
    names = {"loss_energy", "loss_generator", "learning_rate_energy", "grad_norm_statistic"}
    assert {f"train/{name}" for name in names} <= last.keys()
    assert trained.sample(2).images.shape == (2, 8, 8, 1)


def test_its_networks_are_described():
    config = settings()
    model = build.model(config)
    found = describe(config, model)["objective"]
    assert found == {
        "name": NAME,
        "parameters": 64 + 64 * 8,
        "shapes": {"energy": [64], "statistic": [64, 8]},
    }
    assert "objective/statistic" in parameter_table(model)
