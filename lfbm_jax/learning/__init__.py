"""Learning: the state of training and the one compiled update."""

from lfbm_jax.learning.state import TrainState, first_state, init_state
from lfbm_jax.learning.update import compile_update, make_update

__all__ = ["TrainState", "compile_update", "first_state", "init_state", "make_update"]
