"""The model and its densities: z ~ p_alpha(z), x = g_beta(z) + sigma * noise (section 3.1).

Everything here is a pure function of the parameters it is given and handles one example at a time;
`jax.vmap` makes batches.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from lfbm_jax.generators.base import Generator
    from lfbm_jax.inference.base import Inference, LogJoint
    from lfbm_jax.objectives.base import Objective
    from lfbm_jax.priors.base import Prior


# Arrays in nested containers, whose layout is known to the part that made them.
Tree = Any
# An array on a device or in host memory.
Array = jax.Array | np.ndarray
# The groups of parameters that every model has.
GROUPS = ("prior", "generator", "inference")


class Part:
    """What the exchangeable parts of a model have in common.

    A part is a frozen dataclass that inherits from the base class of its folder. Its fields without
    a default come from the builder; fields with a default are the settings of the config section
    that names the part.
    """

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """The config section's settings, shrunk where a two-step `:smoke` run needs it."""
        return settings


class Parameters(NamedTuple):
    """All parameters, or anything else that has one value per group of parameters.

    Attributes:
        alpha: of the prior.
        beta: of the generator.
        phi: of the inference network; None if there is none, as for Langevin dynamics.
        psi: of the objective's own networks, by name; None if it has none.
    """

    alpha: Tree
    beta: Tree
    phi: Tree
    psi: Tree = None

    @classmethod
    def of_groups(cls, groups: Mapping[str, Tree]) -> "Parameters":
        """Parameters made of these groups, by name."""
        psi = {name: group for name, group in groups.items() if name not in GROUPS}
        alpha, beta, phi = (groups[name] for name in GROUPS)
        return cls(alpha, beta, phi, psi or None)

    def groups(self) -> dict[str, Tree]:
        """The groups with their own optimizers, by name: `GROUPS` and each network of psi."""
        return dict(zip(GROUPS, self[:3], strict=True)) | (self.psi or {})


class Example(NamedTuple):
    """One image and its data. With a leading axis on every field, a batch of examples.

    Attributes:
        image: x, [H, W, C], uint8 or in [-1, 1].
        index: its position in the data set, []; chains are keyed by it.
        weight: 1, or 0 for the padding that fills a batch up to the device count, [].
        mask: 1 where a pixel is visible, broadcastable to the image; None if all are.
        start: where its Langevin chain starts, [d]; None if the start is to be drawn.
    """

    image: Array
    index: Array  # type: ignore[assignment]  # tuple.index, which nobody calls
    weight: Array
    mask: Array | None = None
    start: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """The parts that a config names. A model holds no parameters.

    Attributes:
        prior, generator: p_alpha(z) and g_beta(z).
        inference, eval_inference: how z is inferred during training and during evaluation.
        sigma: standard deviation of the observation noise, for x in [-1, 1].
        objective: what training minimises.
        learned_sigma: whether sigma is learned, starting at `sigma`. Its logarithm then belongs to
            beta, which becomes {"generator": ..., "log_sigma": []}.
        masked_inference: how z is inferred from incomplete images if `eval_inference` needs
            complete ones; None if `eval_inference` handles both.
    """

    prior: "Prior"
    generator: "Generator"
    inference: "Inference"
    eval_inference: "Inference"
    sigma: float
    objective: "Objective"
    learned_sigma: bool = False
    masked_inference: "Inference | None" = None

    def init(self, key: jax.Array) -> Parameters:
        """Random parameters."""
        alpha_key, beta_key, phi_key = jax.random.split(key, 3)
        psi_key = jax.random.fold_in(key, 3)  # A split in four could change the other three.
        beta = self.generator.init(beta_key)
        if self.learned_sigma:
            log_sigma = jnp.log(jnp.asarray(self.sigma, float))
            beta = {"generator": beta, "log_sigma": log_sigma}
        return Parameters(
            self.prior.init(alpha_key),
            beta,
            self.inference.init(phi_key),
            self.objective.init(psi_key),
        )

    def prepare(self, parameters: Parameters) -> Parameters:
        """Does the work that depends on the parameters alone, once for many evaluations."""
        beta = parameters.beta
        if self.learned_sigma:
            beta = {**beta, "generator": self.generator.prepare(beta["generator"])}
        else:
            beta = self.generator.prepare(beta)
        return parameters._replace(alpha=self.prior.prepare(parameters.alpha), beta=beta)

    def sigma_of(self, prepared: Parameters) -> jax.Array | float:
        """The standard deviation of the observation noise, []: the constant or the learned one."""
        return jnp.exp(prepared.beta["log_sigma"]) if self.learned_sigma else self.sigma

    def log_p_z(self, prepared: Parameters, z: jax.Array) -> jax.Array:
        """log p_alpha(z) in nats, Eq. 5, up to a constant if the prior is not normalised."""
        return self.prior.log_prob(prepared.alpha, z)

    def log_p_x_given_z(
        self, prepared: Parameters, x: Array, z: jax.Array, mask: Array | None = None
    ) -> jax.Array:
        """log N(x; g_beta(z), sigma^2 I) in nats, summed over the visible entries of x [H, W, C].

        The likelihood of Eq. 7 with its constant: -(1/2) log(2 pi sigma^2) for every entry.
        """
        return self.log_p_x_given_mean(prepared, x, self.decode(prepared, z), mask)

    def log_p_x_given_mean(
        self,
        prepared: Parameters,
        x: Array,
        mean: jax.Array,
        mask: Array | None = None,
    ) -> jax.Array:
        """The same, given the mean image g_beta(z), [H, W, C]."""
        log_prob = jax.scipy.stats.norm.logpdf(x, mean, self.sigma_of(prepared))
        return jnp.sum(log_prob if mask is None else log_prob * mask)

    def log_joint(
        self, prepared: Parameters, x: Array, mask: Array | None = None
    ) -> "LogJoint":
        """The function z -> (log p(z), log p(x|z)) whose sum inference climbs."""

        def log_joint(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self.log_p_z(prepared, z), self.log_p_x_given_z(prepared, x, z, mask)

        return log_joint

    def decode(self, prepared: Parameters, z: jax.Array) -> jax.Array:
        """The mean image g_beta(z), [H, W, C] in [-1, 1]."""
        beta = prepared.beta["generator"] if self.learned_sigma else prepared.beta
        return self.generator.apply(beta, z[: self.prior.generator_dim])

    def sample(self, prepared: Parameters, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Ancestral sampling: draws z from the prior and returns (z, g_beta(z))."""
        z = self.prior.sample(prepared.alpha, key)
        return z, self.decode(prepared, z)
