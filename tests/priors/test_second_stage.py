"""The second stage of the two-stage VAE on latent vectors that are known."""

import jax
import numpy as np
import scipy.stats

from lfbm_jax.metrics.two_samples import squared_mmd
from lfbm_jax.priors import second_stage


def test_second_stage_learns_the_latents_it_is_fitted_to():
    """Two clusters on a line in two dimensions, far from N(0, I)."""
    random = np.random.default_rng(0)
    z = np.stack([random.choice([-1.2, 1.2], size=2000), np.zeros(2000)], axis=1)
    z += 0.15 * random.normal(size=z.shape)
    prior = second_stage.Prior(
        2, hidden_width=32, num_epochs=150, batch_size=64, learning_rate=3e-3
    )
    alpha = jax.jit(prior.init)(jax.random.key(0))
    epochs = []

    def draw(epoch):
        epochs.append(epoch)
        return z.astype(np.float32)

    assert not prior.is_fitted(alpha)
    fitted = prior.fit(alpha, draw, seed=0)
    assert prior.is_fitted(fitted)
    assert epochs == list(range(150)), "z is not drawn again in every epoch"
    shapes = [jax.tree.map(np.shape, tree) for tree in (alpha, fitted)]
    assert shapes[0] == shapes[1]
    keys = jax.random.split(jax.random.key(1), 1000)
    sample = jax.jit(jax.vmap(prior.sample, (None, 0)))
    before, after = (np.asarray(sample(a, keys), float) for a in (alpha, fitted))
    assert scipy.stats.kstest(before.ravel(), "norm").pvalue > 1e-3
    assert squared_mmd(after, z[:1000]) < 5e-3 < 5e-2 < squared_mmd(before, z[:1000])


def test_the_decoder_has_two_hidden_layers_and_an_output_that_sees_its_input():
    """Of width 7, for z of 3 entries: weights 3 to 7, 7 to 7, and 7 + 3 to 3, with biases."""
    alpha = second_stage.Prior(3, hidden_width=7).init(jax.random.key(0))
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(alpha["decoder"]))
    assert shapes == [(3,), (3, 7), (7,), (7,), (7, 7), (10, 3)]
