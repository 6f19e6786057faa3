"""Equality except for rounding, for numbers computed by two programs or on two machines.

Bit-for-bit equality is for results of one program, for copies, and for integers.
"""

import jax
import numpy as np


def assert_close(found, expected, roundings):
    """Compares trees of arrays that may differ by some roundings of their largest entry.

    Args:
        found, expected: arrays, or trees of them of one structure.
        roundings: how many are allowed in each array. One is the machine epsilon of the coarser
            of both types times the largest magnitude in `expected`.
    """

    def compare(found, expected):
        found, expected = np.asarray(found), np.asarray(expected)
        epsilon = max(np.finfo(array.dtype).eps for array in (found, expected))
        atol = roundings * epsilon * np.max(np.abs(expected))
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    jax.tree.map(compare, found, expected)
