"""Chains that converge to the posterior p(z|x), by the samplers of BlackJAX.

All of them sample the density whose gradient Langevin dynamics follows, p(x, z) up to a constant:

    mala    a step of Eq. 8, accepted with the probability of Metropolis (Roberts and Tweedie 1996);
    hmc     a trajectory of `num_leapfrog` steps, accepted likewise (Duane et al. 1987);
    nuts    a trajectory that ends where it would turn back (Hoffman and Gelman 2014);
    mclmc   microcanonical Langevin dynamics (Robnik et al. 2023), which is not corrected: its bias
            is kept small by the energy error that its step size allows.

Each example's chain adapts to its own posterior for `num_warmup` transitions, which are discarded,
and is then left unchanged, so that the kept part has the posterior as its stationary law:

    mala        the step size, by dual averaging towards an acceptance rate of 0.574;
    hmc, nuts   the step size, towards 0.8, and a diagonal mass matrix, in the windows of Stan; with
                fewer than 20 transitions, the step size alone;
    mclmc       step size and the length over which momentum decays: a third of the transitions
                each for the step size, the size of the posterior and its autocorrelation.

The extra `samplers` installs BlackJAX. Cost per example, in gradients of log p(x, z): one per
transition of mala, `num_leapfrog` for hmc, two for mclmc, and from 1 to 1,023 for nuts; examples of
a batch wait for the longest trajectory among them.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lfbm_jax.errors import UserError, check_at_least_one, check_positive, did_you_mean
from lfbm_jax.files import extras
from lfbm_jax.inference import base
from lfbm_jax.inference.base import LogJoint, Posterior
from lfbm_jax.model import Example, Tree

# The best acceptance rate of MALA in many dimensions (Roberts and Rosenthal 1998), and Stan's.
TARGET_ACCEPTANCE = {"mala": 0.574, "hmc": 0.8, "nuts": 0.8}


class Chain(NamedTuple):
    """The K transitions of a chain after its adaptation.

    Attributes:
        z: the states, [K, d].
        quality: what a transition says about its error, by name, [K] each: "acceptance", the
            probability with which it was accepted, and for mclmc "energy_error", the squared error
            of the energy per dimension. mclmc takes back only steps that are not finite: their
            acceptance is 0, and their error counts as 0.
        step_size: the adapted step size, [], on the scale of the setting `step_size`.
    """

    z: jax.Array
    quality: dict[str, jax.Array]
    step_size: jax.Array


class Adapted(NamedTuple):
    """An adapted chain: its state, step(key, state) -> (state, info), and its step size."""

    state: Any
    step: Callable[[jax.Array, Any], tuple[Any, Any]]
    step_size: jax.Array


@dataclasses.dataclass(frozen=True)
class Inference(base.Inference):
    """Returns the last state of an adapted chain, started from N(0, I).

    Attributes:
        kernel: mala, hmc, nuts or mclmc.
        num_warmup: the number of transitions that adapt the chain, at least 1.
        num_steps: K, the number of transitions after that, at least 1.
        step_size: the first step size s, in units of z. A step moves each entry by about s: s is
            Eq. 8's for mala and a leapfrog step for hmc and nuts; mclmc moves by s sqrt(d).
        num_leapfrog: leapfrog steps per trajectory of hmc; others do not read it.
    """

    kernel: str = "mala"
    num_warmup: int = 100
    num_steps: int = 20
    step_size: float = 0.1
    num_leapfrog: int = 10

    needs_potential = True
    takes_masks = True  # log_joint may depend on only some pixels of the image

    def __post_init__(self):
        if self.kernel not in ADAPTATIONS:
            near = did_you_mean(self.kernel, ADAPTATIONS)
            raise UserError(f"inference.kernel={self.kernel!r}: {near}")
        check_at_least_one(
            "inference",
            num_warmup=self.num_warmup,
            num_steps=self.num_steps,
            num_leapfrog=self.num_leapfrog,
        )
        check_positive("inference", step_size=self.step_size)
        if self.kernel == "mclmc" and self.latent_dim < 2:
            raise UserError(
                f"model.latent_dim={self.latent_dim}: inference.kernel='mclmc' needs at least 2"
            )
        _blackjax()

    def infer(
        self,
        phi: Tree,
        key: jax.Array,
        example: Example,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """Runs one example's chain; see the base class.

        Diagnostics: ‖z‖, the adapted step size, and the mean of each entry of `Chain.quality`.
        """
        del phi, example
        start_key, chain_key = jax.random.split(key)
        if start is None:
            start = jax.random.normal(start_key, (self.latent_dim,))
        chain = run(self, chain_key, log_joint, start)
        z = chain.z[-1]
        info = {"norm_z": jnp.linalg.norm(z), "step_size": chain.step_size}
        info |= {name: jnp.mean(values) for name, values in chain.quality.items()}
        return jax.lax.stop_gradient(Posterior(z, jnp.zeros((), z.dtype), info))

    @classmethod
    def smoke_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Adapts for four transitions and keeps two, of short trajectories."""
        return settings | {"num_warmup": 4, "num_steps": 2, "num_leapfrog": 2}


def run(sampler: Inference, key: jax.Array, log_joint: LogJoint, start: jax.Array) -> Chain:
    """Adapts one chain from `start` [d], then keeps its `num_steps` transitions."""

    def log_density(z):
        return sum(log_joint(z))

    adapt_key, key = jax.random.split(key)
    start = jax.lax.stop_gradient(start)
    adapted = ADAPTATIONS[sampler.kernel](sampler, adapt_key, log_density, start)

    def step(state, key):
        state, info = adapted.step(key, state)
        if sampler.kernel == "mclmc":
            error = jnp.square(info.energy_change) / sampler.latent_dim
            acceptance = jnp.where(info.nonans, 1.0, 0.0)
            return state, (state.position, {"acceptance": acceptance, "energy_error": error})
        return state, (state.position, {"acceptance": info.acceptance_rate})

    keys = jax.random.split(key, sampler.num_steps)
    _, (z, quality) = jax.lax.scan(step, adapted.state, keys)
    return Chain(z, quality, adapted.step_size)


def _adapt_mala(sampler, key, log_density, start) -> Adapted:
    """Adapts s, whose square over two is the step size of BlackJAX's kernel."""
    blackjax = _blackjax()
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    kernel = blackjax.mala.build_kernel()
    init, update, final = dual_averaging_adaptation(TARGET_ACCEPTANCE["mala"])

    def step(key, state, step_size):
        return kernel(key, state, log_density, step_size**2 / 2)

    def adapt(carry, key):
        state, averaging = carry
        state, info = step(key, state, jnp.exp(averaging.log_step_size))
        return (state, update(averaging, info.acceptance_rate)), None

    step_size = jnp.asarray(sampler.step_size, start.dtype)
    first = blackjax.mala.init(start, log_density), init(step_size)
    (state, averaging), _ = jax.lax.scan(adapt, first, jax.random.split(key, sampler.num_warmup))
    step_size = final(averaging)
    return Adapted(state, lambda key, state: step(key, state, step_size), step_size)


def _adapt_trajectories(sampler, key, log_density, start) -> Adapted:
    """Adapts hmc or nuts in windows."""
    blackjax = _blackjax()
    from blackjax.adaptation.base import get_filter_adapt_info_fn

    algorithm = vars(blackjax)[sampler.kernel]
    fixed = {"num_integration_steps": sampler.num_leapfrog} if sampler.kernel == "hmc" else {}
    warmup = blackjax.window_adaptation(
        algorithm,
        log_density,
        initial_step_size=jnp.asarray(sampler.step_size, start.dtype),
        target_acceptance_rate=TARGET_ACCEPTANCE[sampler.kernel],
        adaptation_info_fn=get_filter_adapt_info_fn(),  # keeps nothing of the warm-up
        **fixed,
    )
    (state, parameters), _ = warmup.run(key, start, num_steps=sampler.num_warmup)
    return Adapted(state, algorithm(log_density, **parameters).step, parameters["step_size"])


def _adapt_mclmc(sampler, key, log_density, start) -> Adapted:
    """Adapts the step size and the length over which momentum decays."""
    blackjax = _blackjax()
    from blackjax.adaptation.mclmc_adaptation import MCLMCAdaptationState

    init_key, key = jax.random.split(key)
    root = math.sqrt(sampler.latent_dim)  # Momenta have length 1, not sqrt(d) as in Langevin's.
    first = MCLMCAdaptationState(
        L=jnp.asarray(root, start.dtype),
        step_size=jnp.asarray(root * sampler.step_size, start.dtype),
        inverse_mass_matrix=jnp.ones_like(start),
    )
    state, parameters, _ = blackjax.mclmc_find_L_and_step_size(
        blackjax.mclmc.build_kernel(),
        sampler.num_warmup,
        blackjax.mclmc.init(start, log_density, init_key),
        key,
        log_density,
        frac_tune1=1 / 3,
        frac_tune2=1 / 3,
        frac_tune3=1 / 3,
        diagonal_preconditioning=False,
        params=first,
    )
    algorithm = blackjax.mclmc(log_density, **parameters._asdict())
    return Adapted(state, algorithm.step, parameters.step_size / root)


# Kernel -> how its chain is adapted.
ADAPTATIONS: dict[str, Callable[..., Adapted]] = {
    "mala": _adapt_mala,
    "hmc": _adapt_trajectories,
    "nuts": _adapt_trajectories,
    "mclmc": _adapt_mclmc,
}


def _blackjax() -> Any:
    """Imports BlackJAX, which only this module and the task `mixing` need."""
    return extras.imported("blackjax", "the inference method sampler", "samplers")
