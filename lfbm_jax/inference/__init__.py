"""What every inference method gives and gets; one module of this folder is one method."""

from collections.abc import Callable
from typing import NamedTuple

import jax

# z [d] -> (log p(z), log p(x|z)), both in nats; their sum is the log joint density.
LogJoint = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class Posterior(NamedTuple):
    """What was inferred from one example.

    Attributes:
        z: the latent vector, [d]; stopped (no gradient) for Langevin, reparameterised for encoders.
        log_q: log q(z|x) in nats, []; 0 where the method has no density.
        info: scalars worth logging.
    """

    z: jax.Array
    log_q: jax.Array
    info: dict[str, jax.Array]
