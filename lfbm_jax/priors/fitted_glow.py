"""A flow fitted after training: what pythae's and RAE's authors offer in place of joint learning.

Generator and inference learn with the prior N(0, I), as ABP or a VAE do. Then the flow of
`priors/glow.py` is fitted to the latent vectors that were inferred from all training images, by
maximum likelihood, and takes the place of N(0, I). The paper's claim is that a flow which learns
together with the generator (Eq. 5 and 6) does better.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import check_at_least_one, check_positive
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.layers.fit_by_adam import fit_by_adam
from lfbm_jax.priors import base, glow


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """N(0, I) while the generator learns, and the flow of `priors/glow.py` afterwards.

    The length of the fit is ours.

    Attributes:
        num_steps, hidden_width: of the flow.
        num_epochs, batch_size, learning_rate: settings for fitting it with Adam. In each epoch, a
            new z is drawn for every training image.
    """

    num_steps: int = 5
    hidden_width: int = 64
    num_epochs: int = 10
    batch_size: int = 100
    learning_rate: float = 1e-3

    fitted_afterwards = True

    def __post_init__(self):
        check_at_least_one("prior", num_epochs=self.num_epochs, batch_size=self.batch_size)
        check_positive("prior", learning_rate=self.learning_rate)
        self._flow()  # checks the other settings

    def init(self, key: jax.Array) -> dict:
        """The flow's parameters, and fitted = 0."""
        return {"flow": self._flow().init(key), "fitted": jnp.zeros(())}

    def prepare(self, alpha: dict) -> dict:
        """See `glow.Prior`."""
        return alpha | {"flow": self._flow().prepare(alpha["flow"])}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p(z) in nats; z [d]. That of N(0, I) before the fit, without the flow's cost."""
        return jax.lax.cond(
            prepared["fitted"] > 0,
            lambda: self._flow().log_prob(prepared["flow"], z),
            lambda: jnp.sum(jax.scipy.stats.norm.logpdf(z)),
        )

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]."""
        return self.forward(prepared, jax.random.normal(key, (self.latent_dim,)))

    def forward(self, prepared: dict, z0: jax.Array) -> jax.Array:
        """z = f(z0), [d]; z0 itself before the fit."""
        flow = self._flow()
        return jnp.where(prepared["fitted"] > 0, flow.forward(prepared["flow"], z0), z0)

    def inverse(self, prepared: dict, z: jax.Array) -> jax.Array:
        """z0 = f^-1(z), [d]; z itself before the fit."""
        return jnp.where(prepared["fitted"] > 0, self._flow().inverse(prepared["flow"], z), z)

    def fit(self, alpha: dict, draw: Callable[[int], np.ndarray], seed: int) -> dict:
        """Trains the flow from scratch by maximum likelihood, on a new draw of z in every epoch."""
        flow = self._flow()
        start_key, unused_key = jax.random.split(key_for(seed, Purpose.FIT))
        parameters = fit_by_adam(
            lambda parameters, _, z: -flow.log_prob(flow.prepare(parameters), z),
            flow.init(start_key),
            draw,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            key=unused_key,
            seed=seed,
            name="flow",
        )
        return jax.device_get({"flow": parameters, "fitted": jnp.ones_like(alpha["fitted"])})

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Shortens the fit to two epochs."""
        return super().smoke_settings(settings) | {"num_epochs": 2}

    def _flow(self) -> glow.Prior:
        return glow.Prior(self.latent_dim, self.num_steps, self.hidden_width)
