"""Figures accumulated over chunks against those of all values at once."""

import numpy as np
import pytest

from lfbm_jax.metrics.means import Deviation, Mean, RootMean, merged

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(3, 2, (50, 4, 3))
WHERE = RANDOM.uniform(size=(50, 4, 1)) < 0.3
PARTS = [slice(0, 7), slice(7, 8), slice(8, 50)]  # Unlike, so that a mean of means is wrong.
ROUNDED = 1e-13  # Of a few hundred additions.


def test_figures_do_not_depend_on_how_values_are_cut():
    figures = merged(
        {
            "mean": Mean.of(VALUES[part]),
            "share": Mean.of(WHERE[part]),
            "mean_where": Mean.of(VALUES[part], WHERE[part]),
            "root": RootMean.of(np.square(VALUES[part]), WHERE[part]),
            "deviation": Deviation.of(VALUES[part]),
        }
        for part in PARTS
    )
    chosen = VALUES[np.broadcast_to(WHERE, VALUES.shape)]
    expected = {
        "mean": VALUES.mean(),
        "share": WHERE.mean(),
        "mean_where": chosen.mean(),
        "root": np.sqrt(np.mean(chosen**2)),
        "deviation": VALUES.std(),
    }
    assert figures == pytest.approx(expected, rel=ROUNDED)
    assert list(figures) == list(expected) and {type(f) for f in figures.values()} == {float}


def test_one_chunk_is_enough():
    assert merged([{"a": Mean.of(VALUES)}])["a"] == pytest.approx(VALUES.mean(), rel=ROUNDED)


def test_float32_values_are_summed_in_float64():
    """One more than 2^24, beyond which float32 cannot add 1, and a mean far from zero."""
    values = np.full((2, 3_000_000), 1.1, np.float32)
    exact = float(np.float32(1.1))
    figures = merged({"mean": Mean.of(v), "deviation": Deviation.of(v)} for v in values)
    assert figures["mean"] == pytest.approx(exact, rel=1e-15)
    assert figures["deviation"] < 1e-12
    far = np.float32(1e4) + VALUES.astype(np.float32)
    found = merged({"deviation": Deviation.of(far[part])} for part in PARTS)
    assert found["deviation"] == pytest.approx(far.astype(np.float64).std(), rel=1e-12)


def test_more_values_are_counted_than_int32_can():
    part = Mean(total=2.0**31, count=2**31)
    assert merged([{"a": part}, {"a": part}, {"a": Mean(0.0, 2**32)}])["a"] == 0.5
