"""A linear-Gaussian model whose chains teach a network where to start."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lfbm_jax.images.pixels import from_uint8
from lfbm_jax.model import Example, Parameters
from lfbm_jax.objectives.base import Keys
from tests.linear_gaussian import linear_model, posterior

D, SHAPE, SIGMA, STEP, LAYERS = 2, (4, 4, 1), 0.6, 0.2, ((4, 4, 2, 1),)
RANDOM = np.random.default_rng(0)
BETA = {"matrix": 0.5 * RANDOM.normal(size=(16, D)), "bias": 0.3 * RANDOM.normal(size=16)}
BETA = {name: jnp.asarray(value, jnp.float32) for name, value in BETA.items()}
IMAGES = RANDOM.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
X = from_uint8(IMAGES).astype(np.float32)


def model_of(inference):
    return linear_model(D, SHAPE, SIGMA, inference, inference)


def infer(inference, phi, key, image, start=None):
    log_joint = model_of(inference).log_joint(Parameters({}, BETA, phi), image)
    return inference.infer(phi, key, Example(image, 0, 1.0), log_joint, start)


def loss_of(model, phi, key, image, beta=BETA):
    example = Example(image, jnp.zeros((), int), jnp.ones(()))
    return model.objective.loss(model, Parameters({}, beta, phi), Keys(key, key), example)


def learn(model, rate, num_steps, repeats=16):
    """phi after some steps of Adam on X, with `repeats` chains of every image in a step."""
    images = jnp.repeat(X, repeats, axis=0)
    adam = optax.adam(optax.cosine_decay_schedule(rate, num_steps))

    def step(carry, key):
        phi, memory = carry

        def mean_loss(phi):
            keys = jax.random.split(key, len(images))
            return jnp.mean(jax.vmap(lambda k, x: loss_of(model, phi, k, x).value)(keys, images))

        change, memory = adam.update(jax.grad(mean_loss)(phi), memory)
        return (optax.apply_updates(phi, change), memory), None

    @jax.jit
    def all_steps(phi):
        keys = jax.random.split(jax.random.key(1), num_steps)
        return jax.lax.scan(step, (phi, adam.init(phi)), keys)[0][0]

    return all_steps(model.inference.init(jax.random.key(0)))


def law_of_chains(image):
    """Mean [d] and covariance [d, d] that Langevin steps of size s keep.

    With S = I - s^2/2 P and P the precision of the posterior, they are the posterior's mean and
    s^2 (I - S^2)^-1.
    """
    mean, precision = posterior(BETA, SIGMA, image)
    shrink = np.eye(D) - STEP**2 / 2 * precision
    return mean, STEP**2 * np.linalg.inv(np.eye(D) - shrink @ shrink)
