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
from lfbm_jax.model import Example, Tree


def chain_densities(
    chain: langevin.Inference,
    phi: Tree,
    example: Example,
    densities: LogJoint,
    key: jax.Array,
    num_steps: tuple[int, ...],
    num_chains: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs M chains for one image and averages over them after each K of `num_steps`.

    Args:
        chain: the chain, which draws its own start.
        phi: the parameters of the network that draws it, if there is one.
        example: the image, in [-1, 1], that such a network sees.
        densities: the chain's target, z -> (log p(z), log p(x|z)).
        key: seeds all chains.
        num_steps: the K, in ascending order.
        num_chains: M.

    Returns:
        E_q[log p(x, z)] and the lower and upper bound of E_q[log q_K(z|x)], each
        [len(num_steps)].
    """

    def log_joint(z):
        return sum(densities(z))

    def run(key, start, steps):
        part = dataclasses.replace(chain, num_steps=steps)
        return part.infer(phi, key, example, densities, start)

    start_key, key = jax.random.split(key)
    z = jax.vmap(lambda key: run(key, None, 1).start)(jax.random.split(start_key, num_chains))
    found, done = [], 0
    for k in num_steps:
        steps_key, noise_key = jax.random.split(jax.random.fold_in(key, k))
        if k - 1 > done:
            keys = jax.random.split(steps_key, num_chains)
            z = jax.vmap(lambda key, z, steps=k - 1 - done: run(key, z, steps).z)(keys, z)
        # The last step is taken here, because q_K is a mixture around its means.
        mean = langevin_step.drift(z, jax.vmap(jax.grad(log_joint))(z), chain.step_size)
        z = mean + chain.step_size * jax.random.normal(noise_key, mean.shape, mean.dtype)
        found.append((jnp.mean(jax.vmap(log_joint)(z)), *_mixture(z, mean, chain.step_size)))
        done = k
    energy, lower, upper = (jnp.stack(values) for values in zip(*found, strict=True))
    return energy, lower, upper


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
