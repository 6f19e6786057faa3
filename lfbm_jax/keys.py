"""Random keys that depend on their purpose, never on how work is split over devices.

Every use of randomness has a purpose and coordinates, such as the step and the index of an example
in the data set. The same coordinates give the same key on any number of devices.
"""

import enum

import jax
import numpy as np


class Purpose(enum.IntEnum):
    """What a key is for. The numbers must never change, or old runs would resume differently."""

    PARAMETERS = 0
    INFERENCE = 1
    PRIOR_LOSS = 2
    FLIP = 3
    SAMPLE = 4
    EVALUATION = 5
    CHAINS = 6
    FIT = 7


def key_for(seed: int, purpose: Purpose, *coordinates: jax.Array | np.ndarray | int) -> jax.Array:
    """The key for one purpose at some coordinates, given from the most to the least shared."""
    key = jax.random.fold_in(jax.random.key(seed), int(purpose))
    for coordinate in coordinates:
        key = jax.random.fold_in(key, coordinate)
    return key
