"""Chunks cover all indices once, in order."""

import pytest

from lfbm_jax.images.chunks import chunks


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(7, 3, [(0, 3), (3, 6), (6, 7)]), (6, 3, [(0, 3), (3, 6)]), (2, 5, [(0, 2)])],
)
def test_chunks_cover_all_indices(count, size, expected):
    for what in ("", "counting"):
        assert [(c.start, c.stop) for c in chunks(count, size, what)] == expected
