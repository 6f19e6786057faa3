"""Areas under the precision-recall curve against their definitions."""

import itertools
import math

import numpy as np
import pytest

from lfbm_jax.metrics.precision_recall import auprc, average_precision


def trapezoid(anomalies, score):
    """The area between the points (recall, precision) after each image, ties looked at together."""
    anomalies, score = np.asarray(anomalies), np.asarray(score)
    points = [(0.0, 1.0)]  # By convention nothing is retrieved with precision 1.
    for threshold in np.unique(score):
        found = score <= threshold
        hits = np.sum(anomalies & found)
        points.append((hits / anomalies.sum(), hits / found.sum()))
    return sum((r - q) * (p + o) / 2 for (q, o), (r, p) in itertools.pairwise(points))


def steps(anomalies, score):
    """The mean, over the anomalies, of the precision down to each; no score occurs twice."""
    hits = np.asarray(anomalies)[np.argsort(score)]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return precision[hits].mean()


def test_areas_are_their_definitions():
    random = np.random.default_rng(0)
    anomalies = random.uniform(size=40) < 0.2
    scores = random.normal(size=40) - anomalies
    assert auprc(anomalies, scores) == pytest.approx(trapezoid(anomalies, scores))
    assert average_precision(anomalies, scores) == pytest.approx(steps(anomalies, scores))
    ties = np.round(scores)
    assert auprc(anomalies, ties) == pytest.approx(trapezoid(anomalies, ties))


@pytest.mark.parametrize(("anomalies", "images"), [(7877, 20302), (6824, 19460), (100, 1000)])
def test_least_possible_area(anomalies, images):
    """Every normal image ranked before any anomaly: 1 + log(1 - b) (1 - b) / b of base rate b.

    The integral of precision r b / (1 - b + r b) over recall r. Of N images, the trapezoid rule
    errs by the order 1/N².
    """
    ranks, base_rate = np.arange(images), anomalies / images
    least = 1 + math.log(1 - base_rate) * (1 - base_rate) / base_rate
    found = auprc(ranks >= images - anomalies, ranks)
    assert found == pytest.approx(least, abs=1 / images**2)
