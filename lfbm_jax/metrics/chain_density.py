"""Bounds on the density q_K(z|x) of z after K steps of a Langevin chain.

The last step adds Gaussian noise to a mean m that the earlier steps determine, so q_K is a mixture
of N(z; m, s^2 I) over all chains. Estimating the mixture from the means of the other chains gives a
lower bound on the expected log q_K; including the chain's own mean gives an upper bound (Yin and
Zhou 2018; Molchanov et al. 2019). The bounds meet as the number of chains grows.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lfbm_jax.inference import langevin
from lfbm_jax.inference.base import LogJoint
from lfbm_jax.layers import langevin_step


def chain_densities(
    chain: langevin.Inference,
    densities: LogJoint,
    key: jax.Array,
    num_steps: tuple[int, ...],
    num_chains: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs M chains for one image and averages over them after each K of `num_steps`.

    Returns:
        E_q[log p(x, z)] and the lower and upper bound of E_q[log q_K(z|x)], each
        [len(num_steps)].
    """

    def log_joint(z):
        return sum(densities(z))

    def advance(key, z, steps):
        part = dataclasses.replace(chain, num_steps=steps)
        return part.infer({}, key, None, densities, z).z

    start_key, key = jax.random.split(key)
    z = jax.random.normal(start_key, (num_chains, chain.latent_dim))
    found, done = [], 0
    for k in num_steps:
        steps_key, noise_key = jax.random.split(jax.random.fold_in(key, k))
        if k - 1 > done:
            keys = jax.random.split(steps_key, num_chains)
            z = jax.vmap(advance, in_axes=(0, 0, None))(keys, z, k - 1 - done)
        # The last step is taken here, because q_K is a mixture around its means.
        mean = langevin_step.drift(z, jax.vmap(jax.grad(log_joint))(z), chain.step_size)
        z = mean + chain.step_size * jax.random.normal(noise_key, mean.shape, mean.dtype)
        found.append((jnp.mean(jax.vmap(log_joint)(z)), *_mixture(z, mean, chain.step_size)))
        done = k
    return tuple(jnp.stack(values) for values in zip(*found, strict=True))


def _mixture(z: jax.Array, mean: jax.Array, stddev: float) -> tuple[jax.Array, jax.Array]:
    """Mean log-density of z [M, d] under mixtures of N(mean_j, stddev^2 I): other j, all j."""
    count = len(z)

    def log_components(z):
        return jnp.sum(jax.scipy.stats.norm.logpdf(z[None, :], mean, stddev), axis=1)

    log_density = jax.lax.map(log_components, z)
    others = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, log_density)
    return (
        jnp.mean(jax.nn.logsumexp(others, axis=1)) - jnp.log(count - 1),
        jnp.mean(jax.nn.logsumexp(log_density, axis=1)) - jnp.log(count),
    )
