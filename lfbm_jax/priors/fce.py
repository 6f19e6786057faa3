"""A flow tilted by an energy that tells inferred latent vectors from the flow's draws.

Flow contrastive estimation (Gao et al., 2020, "Flow contrastive estimation of energy-based models")
in latent space. With a flow q_alpha and a perceptron h,

    p(z) = q_alpha(z) exp(h(z)),    h(z) = f(z) - c,

where c, minus the bias of h's last layer, stands for the log of the normalising constant E_q[e^f].
z+ is the end of a posterior chain and z- a draw from q_alpha. The perceptron maximises

    E[log sigmoid(h(z+))] + E[log(1 - sigmoid(h(z-)))],

whose optimum is h = log p+(z) - log q_alpha(z), with p+ the density of all z+, for any q_alpha that
is nowhere 0 where p+ is not. So p is then p+, normalised, and no chain ever runs on the prior.

In a few of 100,000 draws the inverse of Glow's couplings, which divides by a sigmoid, explodes: z-
is then far away, or overflows. Such draws are left out, here and in samples: p is learned within a
ball around 0 that is far wider than any chain goes.

The flow maximises E[log q_alpha(z+)]. In the original it plays against the energy, which minimises
a Jensen-Shannon divergence. Maximum likelihood is chosen here because it needs no balance of two
players and no gradient through samples; because it covers all of p+, as the optimum above and the
importance weights below demand, where an adversary may leave parts out; and because flow and energy
then have a joint optimum, q_alpha = p+ and h = 0, that does not depend on how fast either learns.

New here: the original models images, with an energy that has log q_alpha in the classifier's logit
but not in its density. The tilt of a fixed base by a classifier of inferred latent vectors is that
of Aneja et al. (2021, "A contrastive learning approach for training variational autoencoder
priors"), who learn it after a VAE; here base and tilt learn with the generator, and the chains of
Eq. 8 climb the tilted density.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lfbm_jax.errors import check_at_least_one
from lfbm_jax.priors import base, glow

# The radius of the ball, in units of sqrt(d), about the length of a vector from N(0, I). On MNIST
# draws are else up to 13 long.
RADIUS = 30.0


@dataclasses.dataclass(frozen=True)
class Prior(base.Prior):
    """q_alpha(z) exp(f(z) - c), with q_alpha the flow prior `glow`. The tilt's sizes are ours.

    Attributes:
        num_steps, hidden_width: of the flow, see `glow`.
        tilt_width: width of the two hidden layers of h.
        num_proposals: draws from the flow among which `sample` chooses one, at least 1.
    """

    num_steps: int = 5
    hidden_width: int = 64
    tilt_width: int = 200
    num_proposals: int = 32

    normalized = False  # Only as far as h has converged.

    def __post_init__(self):
        self._flow()  # Checks its settings.
        check_at_least_one("prior", tilt_width=self.tilt_width, num_proposals=self.num_proposals)

    def init(self, key: jax.Array) -> dict:
        """Random parameters of the flow and of h. The last layer of h is zero, so p = q_alpha."""
        flow_key, tilt_key = jax.random.split(key)
        tilt = self._tilt().init(tilt_key, jnp.zeros(self.latent_dim))
        return {"flow": self._flow().init(flow_key), "tilt": tilt}

    def prepare(self, alpha: dict) -> dict:
        """Alpha with the flow prepared, see `glow`."""
        return {**alpha, "flow": self._flow().prepare(alpha["flow"])}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log q_alpha(z) + f(z) - c in nats; z [d]. Normalised in the limit of a perfect h."""
        return self._flow().log_prob(prepared["flow"], z) + self._h(prepared, z)

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw, [d]: one of `num_proposals` draws from the flow, with odds proportional to e^h.

        Its law tends to p as their number grows; c cancels. NaN if no draw is within the ball.
        """
        proposals_key, choice_key = jax.random.split(key)
        keys = jax.random.split(proposals_key, self.num_proposals)
        z = jax.vmap(lambda key: self._flow().sample(prepared["flow"], key))(keys)
        log_weights = jax.vmap(lambda z: self._h(prepared, z))(z)
        within = jax.vmap(self._within_ball)(z)
        chosen = jax.random.categorical(choice_key, jnp.where(within, log_weights, -jnp.inf))
        return jnp.where(jnp.any(within), z[chosen], jnp.nan)

    def loss(self, prepared: dict, key: jax.Array, z: jax.Array) -> jax.Array:
        """-log p(z), its tilt constant, plus the logistic loss of h at z and at a flow draw, [].

        In alpha, the flow gets the gradient of -log q_alpha(z) and h that of the logistic loss. The
        gradient in z is that of -log p(z).
        """
        frozen = jax.lax.stop_gradient(prepared)
        negative = self._flow().sample(frozen["flow"], key)
        positive, within = jax.lax.stop_gradient(z), self._within_ball(negative)
        # Replaced before h sees it, because the gradient of h at an infinite vector is not finite.
        negative = jnp.where(within, negative, 0.0)
        logistic = jax.nn.softplus(-self._h(prepared, positive))
        logistic += jnp.where(within, jax.nn.softplus(self._h(prepared, negative)), 0.0)
        return logistic - self._flow().log_prob(prepared["flow"], z) - self._h(frozen, z)

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Narrows the tilt and chooses between few proposals."""
        return settings | {"tilt_width": 8, "num_proposals": 4}

    def _within_ball(self, z: jax.Array) -> jax.Array:
        """Whether z [d] is finite and within the ball, []."""
        return jnp.linalg.norm(z) <= RADIUS * self.latent_dim**0.5

    def _h(self, prepared: dict, z: jax.Array) -> jax.Array:
        return self._tilt().apply(prepared["tilt"], z)[0]

    def _tilt(self) -> nn.Module:
        first, second = (nn.Dense(self.tilt_width, param_dtype=float) for _ in range(2))
        last = nn.Dense(1, param_dtype=float, kernel_init=nn.initializers.zeros)
        return nn.Sequential([first, nn.gelu, second, nn.gelu, last])

    def _flow(self) -> glow.Prior:
        return glow.Prior(self.latent_dim, self.num_steps, self.hidden_width)
