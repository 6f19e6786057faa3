"""Keys: distinct for distinct uses, and the same in every version."""

import itertools

import jax
import numpy as np
import pytest

from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.priors import fitted_glow, second_stage


def data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_no_two_uses_share_a_key():
    coordinates = [(), *itertools.product(range(3)), *itertools.product(range(3), repeat=2)]
    coordinates += [(1, 2, 0), (1, 2, 1)]
    uses = list(itertools.product((0, 1), Purpose, coordinates))
    assert len({data(key_for(seed, purpose, *where)) for seed, purpose, where in uses}) == len(uses)


@pytest.mark.parametrize("module", (fitted_glow, second_stage))
def test_a_prior_fitted_afterwards_draws_from_keys_of_its_own(module, monkeypatch):
    """Splitting the seed's key itself would give those of the first purposes."""
    keys = []

    def remember(loss, parameters, draw, *, key, **settings):
        keys.append(key)
        return parameters

    monkeypatch.setattr(module, "fit_by_adam", remember)
    module.Prior(2, hidden_width=2).fit({"fitted": np.zeros(())}, lambda epoch: None, seed=3)
    assert data(keys[0]) not in {data(key_for(3, purpose)) for purpose in Purpose}


def test_coordinates_may_be_traced():
    """Inside the update, step and index are arrays; outside, they may be Python integers."""
    traced = jax.jit(lambda step, index: key_for(7, Purpose.FLIP, step, index))
    expected = data(key_for(7, Purpose.FLIP, 3, 123_456))
    assert data(traced(3, np.int32(123_456))) == expected
    assert data(traced(np.uint32(3), np.int64(123_456))) == expected


@pytest.mark.parametrize("x64", (False, True))
def test_frozen_values(x64):
    """Old runs resume correctly only if numbers of purposes and their keys never change."""
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "PARAMETERS": 0,
        "INFERENCE": 1,
        "PRIOR_LOSS": 2,
        "FLIP": 3,
        "SAMPLE": 4,
        "EVALUATION": 5,
        "CHAINS": 6,
        "FIT": 7,
    }
    with jax.enable_x64(x64):
        assert data(key_for(0, Purpose.INFERENCE, 1, 2)) == (3127791325, 625995221)
        assert data(key_for(123, Purpose.PARAMETERS)) == (969380169, 3408994049)
