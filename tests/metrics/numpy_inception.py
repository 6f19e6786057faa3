"""The FID network in NumPy, float64, one image at a time, to compare the package's with.

Written from Szegedy et al. 2016 ("Rethinking the Inception architecture", Table 1 and Figures 5 to
7, 10) and from what pytorch-fid documents of the network of 2015: averages leave the padding out,
and the last block pools by maxima. Every padding is written out, the batch normalisations are
kept as layers, and nothing of `lfbm_jax` is used. Names are those of the weights file.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def features(state, x):
    """[2048] of one image x [3, H, W], seen at its own size; H and W of at least 75."""
    layer = Layers(state)
    x = layer("Conv2d_1a_3x3", x, stride=2)
    x = layer("Conv2d_2a_3x3", x)
    x = layer("Conv2d_2b_3x3", x, pad=(1, 1))
    x = largest(x, stride=2)
    x = layer("Conv2d_3b_1x1", x)
    x = layer("Conv2d_4a_3x3", x)
    x = largest(x, stride=2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = figure_5(layer.of(name), x)
    x = first_reduction(layer.of("Mixed_6a"), x)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = figure_6(layer.of(name), x)
    x = second_reduction(layer.of("Mixed_7a"), x)
    x = figure_7(layer.of("Mixed_7b"), x, mean_of_neighbours)
    x = figure_7(layer.of("Mixed_7c"), x, lambda x: largest(x, pad=1))
    return x.mean(axis=(1, 2))


class Layers:
    """layer(name, x): convolution, batch normalisation and rectifier by the weights of a name."""

    def __init__(self, state, prefix=""):
        self._state, self._prefix = state, prefix

    def of(self, block):
        return Layers(self._state, f"{block}.")

    def __call__(self, name, x, stride=1, pad=(0, 0)):
        kernel, gamma, beta, mean, variance = (
            self._state[f"{self._prefix}{name}.{part}"].astype(np.float64)
            for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        (rows, columns), size = pad, kernel.shape[2:]
        x = np.pad(x, ((0, 0), (rows, rows), (columns, columns)))
        windows = sliding_window_view(x, size, axis=(1, 2))[:, ::stride, ::stride]
        x = np.tensordot(kernel, windows, axes=((1, 2, 3), (0, 3, 4)))
        scale = gamma / np.sqrt(variance + 0.001)
        return np.maximum((x - mean[:, None, None]) * scale[:, None, None] + beta[:, None, None], 0)


def largest(x, stride=1, pad=0):
    """Maxima of 3 x 3 pixels."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::stride, ::stride].max(axis=(3, 4))


def mean_of_neighbours(x):
    """Means of the 3 x 3 pixels that exist: four in a corner, six at an edge."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    return np.nanmean(sliding_window_view(x, (3, 3), axis=(1, 2)), axis=(3, 4))


def figure_5(layer, x):
    """1 x 1; 5 x 5; two 3 x 3; pooled."""
    five = layer("branch5x5_2", layer("branch5x5_1", x), pad=(2, 2))
    three = layer("branch3x3dbl_2", layer("branch3x3dbl_1", x), pad=(1, 1))
    three = layer("branch3x3dbl_3", three, pad=(1, 1))
    pooled = layer("branch_pool", mean_of_neighbours(x))
    return np.concatenate([layer("branch1x1", x), five, three, pooled])


def first_reduction(layer, x):
    three = layer("branch3x3", x, stride=2)
    double = layer("branch3x3dbl_2", layer("branch3x3dbl_1", x), pad=(1, 1))
    double = layer("branch3x3dbl_3", double, stride=2)
    return np.concatenate([three, double, largest(x, stride=2)])


def figure_6(layer, x):
    """1 x 1; 7 x 7 in two; two 7 x 7 in four; pooled."""
    along_row, along_column = (0, 3), (3, 0)
    seven = layer("branch7x7_2", layer("branch7x7_1", x), pad=along_row)
    seven = layer("branch7x7_3", seven, pad=along_column)
    double = layer("branch7x7dbl_2", layer("branch7x7dbl_1", x), pad=along_column)
    double = layer("branch7x7dbl_3", double, pad=along_row)
    double = layer("branch7x7dbl_4", double, pad=along_column)
    double = layer("branch7x7dbl_5", double, pad=along_row)
    pooled = layer("branch_pool", mean_of_neighbours(x))
    return np.concatenate([layer("branch1x1", x), seven, double, pooled])


def second_reduction(layer, x):
    three = layer("branch3x3_2", layer("branch3x3_1", x), stride=2)
    seven = layer("branch7x7x3_2", layer("branch7x7x3_1", x), pad=(0, 3))
    seven = layer("branch7x7x3_3", seven, pad=(3, 0))
    seven = layer("branch7x7x3_4", seven, stride=2)
    return np.concatenate([three, seven, largest(x, stride=2)])


def figure_7(layer, x, pool):
    """1 x 1; 3 x 3 that forks; 3 x 3 and another one that forks; pooled."""
    three = layer("branch3x3_1", x)
    double = layer("branch3x3dbl_2", layer("branch3x3dbl_1", x), pad=(1, 1))
    return np.concatenate([
        layer("branch1x1", x),
        layer("branch3x3_2a", three, pad=(0, 1)),
        layer("branch3x3_2b", three, pad=(1, 0)),
        layer("branch3x3dbl_3a", double, pad=(0, 1)),
        layer("branch3x3dbl_3b", double, pad=(1, 0)),
        layer("branch_pool", pool(x)),
    ])  # fmt: skip


def resized(x, side):
    """x [C, H, W] by bilinear interpolation to [C, side, side], without smoothing.

    Pixel i of `side` looks at the place (i + 1/2) H / side - 1/2 between the centres of rows.
    """

    def along(size):
        weights = np.zeros((side, size))
        for i in range(side):
            place = np.clip((i + 0.5) * size / side - 0.5, 0, size - 1)
            lower = int(place)
            weights[i, lower] += 1 - (place - lower)
            weights[i, min(lower + 1, size - 1)] += place - lower
        return weights

    return along(x.shape[1]) @ x @ along(x.shape[2]).T
