"""Compares two samples of vectors: a two-sample test, a distance and a fitted density."""

import numpy as np

from lfbm_jax.metrics import frechet


def two_sample_accuracy(one: np.ndarray, other: np.ndarray, seed: int) -> float:
    """The test accuracy of a small perceptron that tells two samples [N, d] apart.

    This is the classifier two-sample test (Lopez-Paz and Oquab 2017): trained on every second
    vector, the classifier is right on half of the others if the distributions agree, and on more if
    they differ.
    """
    from sklearn.neural_network import MLPClassifier  # Slow to import, seldom needed.

    vectors = np.concatenate([one, other])
    labels = np.repeat([0, 1], [len(one), len(other)])
    centred = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-12)
    classifier = MLPClassifier((64,), early_stopping=True, random_state=seed)
    classifier.fit(centred[::2], labels[::2])
    return float(classifier.score(centred[1::2], labels[1::2]))


def squared_mmd(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples [N, d] and [M, d].

    The kernel is 1 / (1 + |a - b|^2 / d); its scale is about the distance between two independent
    standard normal vectors. See `frechet.squared_mmd`.
    """

    def kernel(a, b):
        squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1) - 2 * a @ b.T
        return 1 / (1 + np.maximum(squares, 0) / a.shape[1])

    return frechet.squared_mmd(one, other, kernel)


def gaussian_log_density(vectors: np.ndarray, fitted_to: np.ndarray) -> float:
    """The mean log-density of vectors [N, d] under a Gaussian, in nats.

    Args:
        vectors: the points at which the density is evaluated.
        fitted_to: vectors [M, d] whose mean and full covariance the Gaussian has.
    """
    from scipy import stats  # Imported here: every command lists the tasks, and SciPy takes 40 MB.

    gaussian = stats.multivariate_normal(fitted_to.mean(axis=0), np.cov(fitted_to.T))
    return float(np.mean(gaussian.logpdf(vectors)))
