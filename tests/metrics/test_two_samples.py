"""Two samples of vectors: discrepancy, classifier test and fitted density, by their definitions."""

import numpy as np
import pytest

from lfbm_jax.metrics import frechet
from lfbm_jax.metrics.two_samples import gaussian_log_density, squared_mmd, two_sample_accuracy


@pytest.mark.parametrize("rows", [2, 1000])
def test_mmd_is_the_definition(monkeypatch, rows):
    """For any number of the kernel matrix's rows held at a time."""
    monkeypatch.setattr(frechet, "GRAM_ROWS", rows)
    random = np.random.default_rng(0)
    one, other = random.normal(size=(5, 3)), random.normal(size=(4, 3)) + 1

    def kernel(a, b):
        return 1 / (1 + sum((a[i] - b[i]) ** 2 for i in range(3)) / 3)

    def mean(pairs):
        values = [kernel(a, b) for a, b in pairs]
        return sum(values) / len(values)

    def distinct(points):
        return [(a, b) for i, a in enumerate(points) for j, b in enumerate(points) if i != j]

    crossed = [(a, b) for a in one for b in other]
    expected = mean(distinct(one)) + mean(distinct(other)) - 2 * mean(crossed)
    assert squared_mmd(one, other) == pytest.approx(expected, rel=1e-12)


def test_mmd_tells_distributions_apart():
    """Same means and covariances, another shape; the same distribution stays near zero."""
    random = np.random.default_rng(1)
    normal, again = random.normal(size=(2, 1500, 2))
    signs = random.choice([-1.0, 1.0], size=(1500, 2))
    assert abs(squared_mmd(normal, again)) < 2e-3
    assert squared_mmd(normal, signs) > 1e-2


def test_a_classifier_tells_distributions_apart():
    random = np.random.default_rng(1)
    normal, again = random.normal(size=(2, 1500, 2))
    signs = random.choice([-1.0, 1.0], size=(1500, 2))
    chance = 4 * 0.5 / np.sqrt(1500)
    assert two_sample_accuracy(normal, again, 0) == pytest.approx(0.5, abs=chance)
    assert two_sample_accuracy(normal, signs, 0) > 0.75
    assert two_sample_accuracy(normal, 1000 * again, 0) > 0.9


def test_density_of_one_sample_under_the_gaussian_of_another():
    random = np.random.default_rng(2)
    factor = random.normal(size=(3, 3))
    vectors, others = random.normal(size=(2, 50, 3)) @ factor + [1.0, -2.0, 0.5]
    off, covariance = vectors - others.mean(axis=0), np.cov(others.T)
    squares = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
    expected = -0.5 * (squares + np.linalg.slogdet(2 * np.pi * covariance)[1]).mean()
    assert gaussian_log_density(vectors, fitted_to=others) == pytest.approx(expected, rel=1e-11)
