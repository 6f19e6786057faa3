"""The ratios of a benchmark."""

import types

from lfbm_jax.costs import benchmark


def worker(seconds, memory):
    return types.SimpleNamespace(seconds=seconds, peak_memory_bytes=memory)


def test_ratios_are_of_turns_taken_side_by_side():
    """A machine that is ten times slower in the second turn does not change the ratio."""
    found = benchmark.beside(worker([1.0, 10.0, 1.0], 600), worker([2.0, 20.0, 4.0], 400))
    assert found["speed_ratio"] == {"median": 2.0, "min": 2.0, "max": 4.0}
    assert found["seconds_per_step"] == 4.0
    assert found["memory_ratio"] == 1.5
