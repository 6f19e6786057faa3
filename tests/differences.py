"""Gradients by central differences, for functions that NumPy computes in float64."""

import numpy as np

STEP = 1e-6


def central(function, value):
    """The gradient of function: array -> number at an array, of the array's shape."""
    value = np.asarray(value, np.float64)
    gradient = np.empty_like(value)
    for place in np.ndindex(value.shape):
        shift = np.zeros_like(value)
        shift[place] = STEP
        gradient[place] = (function(value + shift) - function(value - shift)) / (2 * STEP)
    return gradient
