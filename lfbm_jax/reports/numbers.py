"""Formats numbers for readers."""

import math


def shown(value: float) -> str:
    """Whole numbers and those from 1,000 on without decimals, others with four digits.

    A value that is not known (NaN) is a dash.
    """
    if math.isnan(value):
        return "-"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"
