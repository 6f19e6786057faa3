"""Distances of sets of vectors against closed forms, and moments against NumPy's."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from lfbm_jax.metrics.frechet import Gaussian, Moments, frechet_distance, kernel_distance


def gaussian(seed, size=6, rank=6):
    random = np.random.default_rng(seed)
    factor = random.normal(size=(size, rank))
    return Gaussian(random.normal(size=size), factor @ factor.T)


def test_closed_form_for_independent_coordinates():
    mean, stddev = np.random.default_rng(0).uniform(0.1, 2, (2, 2, 5))
    one, other = (Gaussian(m, np.diag(s**2)) for m, s in zip(mean, stddev, strict=True))
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.sum((stddev[0] - stddev[1]) ** 2)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-12)


def test_matrix_root_of_another_library():
    one, other = gaussian(0), gaussian(1)
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance)
    expected = np.sum((one.mean - other.mean) ** 2)
    expected += np.trace(one.covariance + other.covariance - 2 * root.real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-10)


def test_optimal_map_between_gaussians():
    """The distance is the cost of the linear map that carries one Gaussian to the other."""
    one = gaussian(2)
    factor = np.random.default_rng(3).normal(size=(6, 6))
    transport, shift = factor @ factor.T, np.arange(6.0)  # symmetric and positive: optimal
    other = Gaussian(transport @ one.mean + shift, transport @ one.covariance @ transport)
    move = transport - np.eye(6)
    cost = np.sum((move @ one.mean + shift) ** 2) + np.trace(move @ one.covariance @ move)
    assert frechet_distance(one, other) == pytest.approx(cost, rel=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_zero_on_itself_and_symmetric(rank):
    one, other = gaussian(4, rank=rank), gaussian(5, rank=rank)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)
    there, back = frechet_distance(one, other), frechet_distance(other, one)
    assert there == pytest.approx(back, rel=1e-10)
    assert there > 0.1


def test_disjoint_directions_do_not_overlap():
    """Two singular covariances whose product is zero: the root has no trace."""
    one = Gaussian(np.zeros(4), np.diag([1.0, 2.0, 0.0, 0.0]))
    other = Gaussian(np.zeros(4), np.diag([0.0, 0.0, 3.0, 4.0]))
    assert frechet_distance(one, other) == pytest.approx(10, rel=1e-12)


def test_streamed_moments_are_those_of_all_at_once():
    """Also far from zero, where sums of squares would lose every digit."""
    vectors = 1e7 + np.random.default_rng(6).normal(size=(50, 4)) * [1, 2, 3, 4]
    moments = Moments(4)
    for part in np.split(vectors, [1, 8, 30]):
        moments.add(part)
    found = moments.gaussian()
    assert moments.count == 50
    np.testing.assert_allclose(found.mean, vectors.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(vectors.T), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_averaged(value):
    moments = Moments(2)
    with pytest.raises(FloatingPointError):
        moments.add(np.array([[0, 1], [2, value]]))
    assert moments.count == 0
    moments.add(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="no covariance"):
        moments.gaussian()


def test_kernel_distance_is_its_definition():
    one, other = np.random.default_rng(7).normal(size=(2, 5, 3))

    def kernel(a, b):
        return (sum(x * y for x, y in zip(a, b, strict=True)) / 3 + 1) ** 3

    def mean(pairs):
        values = [kernel(a, b) for a, b in pairs]
        return sum(values) / len(values)

    expected = mean(itertools.permutations(one, 2)) + mean(itertools.permutations(other, 2))
    expected -= 2 * mean(itertools.product(one, other))
    found, spread = kernel_distance(one, other, subsets=3)
    assert found == pytest.approx(expected, rel=1e-12)
    assert spread == pytest.approx(0, abs=1e-12)


def test_kernel_distance_is_unbiased():
    one, same = np.random.default_rng(8).normal(size=(2, 2000, 4))
    found, spread = kernel_distance(one, same, subsets=100, size=50)
    assert abs(found) < 4 * spread / np.sqrt(40)  # subsets of 50 out of 2,000: 40 do not overlap
    assert kernel_distance(one, 1.5 * same, subsets=100, size=50)[0] > 10 * abs(found)
