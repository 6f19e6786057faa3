"""Distances between two sets of feature vectors: Frechet distance and kernel distance."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lfbm_jax.files import terminal
from lfbm_jax.images.chunks import chunks

KERNEL_SUBSETS = 100
KERNEL_SUBSET_SIZE = 1000
GRAM_ROWS = 1000  # Rows of a kernel's matrix that are held at a time.


class Gaussian(NamedTuple):
    """The mean [D] and the unbiased covariance [D, D] of vectors, both float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Moments:
    """Accumulates the mean and covariance of batches of vectors, in float64.

    Merges centred sums (Chan, Golub and LeVeque), which avoids cancellation however large the mean
    is compared with the deviations.
    """

    def __init__(self, size: int):
        self.count = 0
        self._mean = np.zeros(size)
        self._scatter = np.zeros((size, size))

    def add(self, features: np.ndarray) -> None:
        """Adds vectors [N, D]; raises a FloatingPointError if one is not finite."""
        if not np.isfinite(features).all():
            raise FloatingPointError("features of images are not finite, so they have no distance")
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        centred, shift = features - mean, mean - self._mean
        total = self.count + len(features)
        self._scatter += centred.T @ centred
        self._scatter += np.outer(shift, shift) * (self.count * len(features) / total)
        self._mean += shift * (len(features) / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """The estimates so far; raises a ValueError for fewer than two vectors."""
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance")
        return Gaussian(self._mean, self._scatter / (self.count - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Frechet (Wasserstein-2) distance of two Gaussians, also of singular ones.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The trace of the root is the sum of the singular
    values of R1 R2, where R R = C: this needs no inverse and stays real.
    """
    roots = [_root(gaussian.covariance) for gaussian in (one, other)]
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    shift = one.mean - other.mean
    return float(
        shift @ shift + np.trace(one.covariance) + np.trace(other.covariance) - 2 * overlap
    )


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root; eigenvalues that rounding made negative count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def kernel_distance(
    one: np.ndarray,
    other: np.ndarray,
    subsets: int = KERNEL_SUBSETS,
    size: int = KERNEL_SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """The kernel distance of feature vectors [N, D] and [M, D] (Binkowski et al. 2018).

    Estimates the squared maximum mean discrepancy with the kernel (a b / D + 1)^3 on random subsets
    of both sets (on all vectors if there are fewer than `size`). Returns the mean and the standard
    deviation over subsets. The expectation is zero if the distributions agree; an estimate may be
    negative.
    """
    random = np.random.default_rng(seed)
    size = min(size, len(one), len(other))
    one, other = (np.asarray(features, np.float64) for features in (one, other))

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    estimates = []
    rounds = range(subsets)
    for _ in terminal.bar(rounds, desc="kernel distance", unit="subset", delay=3, leave=False):
        a, b = (features[random.permutation(len(features))[:size]] for features in (one, other))
        estimates.append(squared_mmd(a, b, kernel))
    return float(np.mean(estimates)), float(np.std(estimates))


def squared_mmd(
    one: np.ndarray, other: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, Eq. 3).

    Its expectation is zero if the distributions agree, so it may be slightly negative.

    Args:
        one, other: two samples, [N, D] and [M, D].
        kernel: maps two such arrays to their kernel matrix, [N, M].
    """


    def within(a):
        total = 0.0
        for rows in chunks(len(a), GRAM_ROWS):
            gram = kernel(a[rows], a)
            total += gram.sum() - np.trace(gram, offset=rows.start)
        return total / (len(a) * (len(a) - 1))

    between = sum(kernel(one[rows], other).sum() for rows in chunks(len(one), GRAM_ROWS))
    return float(within(one) + within(other) - 2 * between / (len(one) * len(other)))
