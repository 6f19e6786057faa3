"""The flow fitted after training, on latent vectors whose density is known."""

import jax
import numpy as np

from lfbm_jax.priors import fitted_glow


def test_before_the_fit_it_is_standard_normal():
    prior = fitted_glow.Prior(3)
    prepared = jax.jit(prior.prepare)(prior.init(jax.random.key(0)))
    z = np.asarray([0.5, -1.0, 2.0], np.float32)
    expected = -0.5 * np.sum(z**2) - 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(jax.jit(prior.log_prob)(prepared, z), expected, rtol=1e-6)
    np.testing.assert_array_equal(prior.forward(prepared, z), z)
    np.testing.assert_array_equal(prior.inverse(prepared, z), z)


def test_the_fit_comes_as_near_as_the_law_of_z_allows():
    """KL(law of z, flow) in nats for a correlated Gaussian pushed onto a parabola.

    The map from the Gaussian has determinant one, so the entropies of the two are the same.
    """
    random = np.random.default_rng(0)
    covariance = np.asarray([[1.0, 0.6], [0.6, 0.5]])
    entropy = np.log(2 * np.pi * np.e) + 0.5 * np.log(np.linalg.det(covariance))

    def draw(epoch):
        epochs.append(epoch)
        z = random.multivariate_normal([0.3, -0.2], covariance, size=4000)
        return np.stack([z[:, 0], z[:, 1] + z[:, 0] ** 2], axis=1).astype(np.float32)

    epochs = []
    prior = fitted_glow.Prior(
        2, num_steps=3, hidden_width=32, num_epochs=40, batch_size=200, learning_rate=4e-3
    )
    alpha = prior.init(jax.random.key(0))
    assert not prior.is_fitted(alpha)
    fitted = prior.fit(alpha, draw, seed=0)
    assert prior.is_fitted(fitted) and epochs == list(range(40))
    assert jax.tree.map(np.shape, fitted) == jax.tree.map(np.shape, alpha)

    prepared = prior.prepare(fitted)
    z = draw(0)
    log_p = np.asarray(jax.jit(jax.vmap(prior.log_prob, (None, 0)))(prepared, z), float)
    error = 4 * log_p.std() / np.sqrt(len(z))
    assert -error < -entropy - log_p.mean() < 0.05 + error
    again = prior.forward(prepared, prior.inverse(prepared, z[0]))
    np.testing.assert_allclose(again, z[0], rtol=1e-4, atol=1e-5)
