"""Persistent chains (Tieleman, 2008; Han et al., 2017): Langevin dynamics that goes on and on."""

import dataclasses

from lfbm_jax.inference import langevin


@dataclasses.dataclass(frozen=True)
class Inference(langevin.Inference):
    """Langevin dynamics, Eq. 8, that takes up every training image's chain where it stopped.

    Training keeps the last z of every image, [N, d], beside the parameters and in checkpoints; at
    first they are drawn from N(0, I). For images that have no chain, as in evaluation, it is plain
    Langevin dynamics from N(0, I).

    Attributes: see `langevin.Inference`.
    """

    keeps_chains = True
