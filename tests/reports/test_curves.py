"""Curves: which readings are drawn, and how."""

import re

import numpy as np

from lfbm_jax.reports import curves
from lfbm_jax.reports.curves import Chart, Series

CHART = Chart("a title", {"a": "one", "b": "other"})


def test_long_curves_are_means_over_neighbours():
    count = 10 * curves.POINTS
    series = Series([*range(count)], [*np.arange(count) % 10])
    steps, values = curves._thinned(series)
    assert len(steps) == curves.POINTS
    np.testing.assert_allclose(values, 4.5)
    np.testing.assert_allclose(steps[:2], [4.5, 14.5])
    steps, values = curves._thinned(Series([3, 5], [0.5, 0.25]))
    assert (*steps, *values) == (3, 5, 0.5, 0.25)


def test_a_chart_takes_its_colour_from_the_page_and_is_the_same_every_time():
    metrics = {"a": Series([1, 2], [1.0, 2.0]), "b": Series([1], [3.0])}
    svg = curves.draw(CHART, metrics)
    assert svg == curves.draw(CHART, metrics)
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "currentColor" in svg and curves.INK not in svg
    for text in ("one", "other", "iterations"):
        assert f">{text}</text>" in svg
    for colour in curves.COLOURS[:2]:
        assert colour in svg


def test_a_wide_range_of_positive_values_is_logarithmic():
    def ticks(*values):
        svg = curves.draw(Chart("t", {"a": "one"}), {"a": Series([1, 2], [*values])})
        return re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)

    assert any("tspan" in tick for tick in ticks(0.01, 100.0)), "powers of ten"
    assert not any("tspan" in tick for tick in ticks(1.0, 2.0) + ticks(-0.01, 100.0))


def test_charts_hold_only_what_was_logged_and_leave_nothing_out():
    names = ("step", "epoch", "train/grad_norm_prior", "sample/mismatch", "other")
    found = list(curves.charts({name: Series([1], [1.0]) for name in names}))
    assert [chart.lines for chart in found] == [
        {"train/grad_norm_prior": "prior (alpha)"},
        {"other": "other"},
    ]
