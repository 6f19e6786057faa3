"""Persistent chains (Tieleman, 2008; Han et al., 2017): Langevin dynamics kept across epochs."""

import dataclasses

from lfbm_jax.inference import langevin


@dataclasses.dataclass(frozen=True)
class Inference(langevin.Inference):
    """Langevin dynamics, Eq. 8, that resumes the chain of each training image where it stopped.

    Training keeps the last z of each image, [N, d], beside the parameters and in checkpoints. The
    first z are drawn from N(0, I). Images without a chain, as in evaluation, get plain Langevin
    dynamics from N(0, I).

    Attributes: see `langevin.Inference`.
    """

    keeps_chains = True
