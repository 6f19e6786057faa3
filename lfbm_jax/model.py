"""The model and its densities: z ~ p_alpha(z), x = g_beta(z) + sigma * noise (section 3.1).

Everything here is a pure function of parameters that are passed in, for one example at a time;
`jax.vmap` makes batches.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.runs import parts


class Parameters(NamedTuple):
    """The three groups of parameters, or anything that comes once for each of them.

    Attributes:
        alpha: of the prior.
        beta: of the generator.
        phi: of the inference network; empty for Langevin dynamics.
    """

    alpha: Any
    beta: Any
    phi: Any


class Example(NamedTuple):
    """One training or test image and what belongs to it; with a leading axis, a batch of them.

    Attributes:
        image: x, [H, W, C], uint8 or in [-1, 1].
        index: its position in the data set, []; chains are keyed by it.
        weight: 1, or 0 for the padding that fills a batch up to the device count, [].
        mask: 1 where a pixel is visible, broadcastable to the image; None where all are.
        start: where its chain starts, [d]; None where that is drawn anew.
    """

    image: jax.Array
    index: jax.Array
    weight: jax.Array
    mask: jax.Array | None = None
    start: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """The parts of one configured model; it holds no parameters.

    Attributes:
        prior, generator: the two networks (see the README for their contracts).
        inference: how z is inferred in training; eval_inference: in evaluation.
        sigma: standard deviation of the observation noise, for x in [-1, 1].
        masked_inference: of incomplete images, where eval_inference needs whole ones.
        objective: a baseline's own, in place of `learning.objective`.
    """

    prior: Any
    generator: Any
    inference: Any
    eval_inference: Any
    sigma: float
    objective: Callable[..., tuple[jax.Array, dict[str, jax.Array]]] | None = None
    masked_inference: Any = None

    def init(self, key: jax.Array) -> Parameters:
        """Random parameters."""
        alpha_key, beta_key, phi_key = jax.random.split(key, 3)
        return Parameters(
            self.prior.init(alpha_key), self.generator.init(beta_key), self.inference.init(phi_key)
        )

    def prepare(self, parameters: Parameters) -> Parameters:
        """The work that depends on parameters alone, done once for many evaluations."""
        return Parameters(
            self.prior.prepare(parameters.alpha),
            self.generator.prepare(parameters.beta),
            parameters.phi,
        )

    def log_p_z(self, prepared: Parameters, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, Eq. 5; up to a constant where the prior is not normalised."""
        return self.prior.log_prob(prepared.alpha, z)

    def log_p_x_given_z(
        self, prepared: Parameters, x: jax.Array, z: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """log N(x; g_beta(z), sigma^2 I) in nats, summed over the visible entries of x [H, W, C].

        The likelihood of Eq. 7 with its constant: -(1/2) log(2 pi sigma^2) for every entry.
        """
        return self.log_p_x_given_mean(x, self.decode(prepared, z), mask)

    def log_p_x_given_mean(
        self, x: jax.Array, mean: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """The same where the mean image g_beta(z), [H, W, C], is known already."""
        log_prob = jax.scipy.stats.norm.logpdf(x, mean, self.sigma)
        return jnp.sum(log_prob if mask is None else log_prob * mask)

    def log_joint(self, prepared: Parameters, x: jax.Array, mask: jax.Array | None = None):
        """The function z -> (log p(z), log p(x|z)) that inference climbs."""

        def log_joint(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self.log_p_z(prepared, z), self.log_p_x_given_z(prepared, x, z, mask)

        return log_joint

    def decode(self, prepared: Parameters, z: jax.Array) -> jax.Array:
        """The mean image g_beta(z), [H, W, C] in [-1, 1]."""
        return self.generator.apply(prepared.beta, z)

    def sample(self, prepared: Parameters, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Ancestral sampling: z from the prior, then the mean image g_beta(z); (z, x)."""
        z = self.prior.sample(prepared.alpha, key)
        return z, self.decode(prepared, z)


def to_unit_range(image: jax.Array) -> jax.Array:
    """uint8 image, or one in [-1, 1] already -> x in [-1, 1], in the default floating type."""
    x = image.astype(float)
    return x / 127.5 - 1 if image.dtype == jnp.uint8 else x


def occlude(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """x in [-1, 1] with the invisible pixels grey (0), so that nothing can make use of them."""
    return x if mask is None else x * mask


def build(config: ml_collections.ConfigDict) -> Model:
    """The model of a config; raises UserError where the config does not describe one."""
    if not config.model.sigma > 0:
        raise UserError(f"model.sigma={config.model.sigma}: must be positive")
    if config.model.latent_dim < 1:
        raise UserError(f"model.latent_dim={config.model.latent_dim}: must be at least 1")
    side = config.data.image_size
    context = {
        "latent_dim": config.model.latent_dim,
        "image_shape": (side, side, config.data.channels),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else None,
    }
    model = Model(
        **{section: parts.build(config, section, **context) for section in parts.OF_MODEL},
        sigma=float(config.model.sigma),
    )
    _check_evaluation(model)
    if not getattr(model.masked_inference, "takes_masks", False):
        raise UserError(
            f"masked_inference.name={config.masked_inference.name!r}: cannot infer from part of an"
            " image; use langevin"
        )
    if config.baseline.name:
        model = parts.build(config, "baseline", **context).adapt(model)
    if getattr(model.inference, "keeps_chains", False) and config.data.horizontal_flip:
        raise UserError(
            "data.horizontal_flip=True: persistent chains belong to one image, not to its mirror"
            " image too; set it to False"
        )
    return model


def _check_evaluation(model: Model) -> None:
    """UserError where evaluation's inference network could not use the trained parameters."""
    trained, used = (
        jax.eval_shape(inference.init, jax.random.key(0))
        for inference in (model.inference, model.eval_inference)
    )
    if jax.tree.leaves(used) and used != trained:
        raise UserError(
            "eval_inference: its network differs from that of inference, whose parameters it gets;"
            " give both the same name and layers, or evaluate with eval_inference=langevin"
        )
