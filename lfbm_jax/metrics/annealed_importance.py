"""Annealed importance sampling of log p(x) (Neal 2001), with Hamiltonian transitions.

Chains move from N(0, I) to the posterior p(z|x) through densities proportional to
N(z; 0, I)^(1 - beta) p(x, z)^beta. Their weights are unbiased estimates of p(x), so the expected
mean of the log-weights is at most log p(x), and the log of the mean weight converges to it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TARGET_ACCEPTANCE = 0.8
FIRST_STEP_SIZE = 0.3
ADAPTATION = 0.2  # change of the log step size per unit of acceptance error
PILOT_CHAINS = 16
POWER = 4  # beta = (t / T)^4: small steps at first, where the density changes most


class Annealed(NamedTuple):
    """The result of N chains over T temperatures for one image.

    Attributes:
        z: the final z of the chains, [N, d].
        increments: the increments of the log-weights, [T, N]; `log_evidence` sums them in float64.
        acceptance: the mean acceptance rate, [].
    """

    z: jax.Array
    increments: jax.Array
    acceptance: jax.Array


def anneal(
    log_joint: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    latent_dim: int,
    num_chains: int,
    num_temperatures: int,
    num_leapfrog: int = 5,
) -> Annealed:
    """Runs the chains of one image.

    Args:
        log_joint: z [d] -> log p(x, z) in nats, []. If it lacks a constant, such as the log Z of
            an energy prior, the estimate of log p(x) lacks it too.
        key: seeds all chains.
        latent_dim: d.
        num_chains, num_temperatures: N and T.
        num_leapfrog: leapfrog steps per transition; there is one transition per temperature.

    A pilot run chooses the step size of each temperature. In the main run the step sizes do not
    depend on its own draws, so the weights stay unbiased.
    """
    betas = (jnp.arange(num_temperatures + 1) / num_temperatures) ** POWER

    def log_base(z):
        return jnp.sum(jax.scipy.stats.norm.logpdf(z))

    def log_ratio(z):
        return log_joint(z) - log_base(z)

    def run(key, num_chains, step_sizes):
        start_key, moves_key = jax.random.split(key)

        def temperature(carry, t):
            z, own_step_size = carry
            beta = betas[t + 1]
            step_size = own_step_size if step_sizes is None else step_sizes[t]
            increment = (beta - betas[t]) * jax.vmap(log_ratio)(z)
            keys = jax.random.split(jax.random.fold_in(moves_key, t), num_chains)

            def move(key, z):
                return _transition(
                    lambda z: log_base(z) + beta * log_ratio(z), key, z, step_size, num_leapfrog
                )

            z, acceptance = jax.vmap(move)(keys, z)
            acceptance = jnp.mean(acceptance)
            adapted = step_size * jnp.exp(ADAPTATION * (acceptance - TARGET_ACCEPTANCE))
            return (z, adapted), (increment, acceptance, step_size)

        start = jax.random.normal(start_key, (num_chains, latent_dim))
        first = jnp.asarray(FIRST_STEP_SIZE, start.dtype)
        (z, _), history = jax.lax.scan(temperature, (start, first), jnp.arange(num_temperatures))
        return z, history

    pilot_key, key = jax.random.split(key)
    _, (_, _, step_sizes) = run(pilot_key, PILOT_CHAINS, None)
    z, (increments, acceptance, _) = run(key, num_chains, step_sizes)
    return Annealed(z, increments, jnp.mean(acceptance))


def log_evidence(increments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns log p(x) in nats, [...], and the effective sample size over N, in (0, 1].

    Args:
        increments: the increments of the log-weights, [..., T, N].
    """
    log_weights = np.sum(increments, axis=-2, dtype=np.float64)
    count = log_weights.shape[-1]
    log_sum = np.logaddexp.reduce(log_weights, axis=-1)
    weights = np.exp(log_weights - log_sum[..., None])
    return log_sum - np.log(count), 1 / (count * np.sum(weights**2, axis=-1))


def _transition(
    log_density: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    z: jax.Array,
    step_size: jax.Array,
    num_leapfrog: int,
) -> tuple[jax.Array, jax.Array]:
    """Takes a Hamiltonian Monte Carlo step with unit masses; returns z and the acceptance rate."""
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, z.shape, z.dtype)
    slope = jax.grad(log_density)

    def leapfrog(_, state):
        z, momentum, gradient = state
        momentum = momentum + 0.5 * step_size * gradient
        z = z + step_size * momentum
        gradient = slope(z)
        return z, momentum + 0.5 * step_size * gradient, gradient

    moved, end_momentum, _ = jax.lax.fori_loop(0, num_leapfrog, leapfrog, (z, momentum, slope(z)))
    energy = 0.5 * (jnp.sum(momentum**2) - jnp.sum(end_momentum**2))
    log_accept = log_density(moved) - log_density(z) + energy
    # A diverged trajectory ends in NaN or infinity. It is rejected, like a point of zero density.
    log_accept = jnp.where(jnp.isfinite(log_accept), jnp.minimum(log_accept, 0), -jnp.inf)
    accept = jnp.log(jax.random.uniform(accept_key, dtype=z.dtype)) < log_accept
    return jnp.where(accept, moved, z), jnp.exp(log_accept)
