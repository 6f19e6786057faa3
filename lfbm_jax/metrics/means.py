"""Accumulates figures over chunks of images, in float64.

The interface (`merge`, `compute`) and the collection of figures are those of `clu.metrics`, whose
own averages run on devices and sum in float32 and count in int32. Neither suffices for whole
splits: ten completions of each of CelebA's 19,867 validation images have 2.4e9 entries, more than
int32 can count. Here each chunk is reduced to float64 sums on the host.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Self

import flax
import numpy as np
from clu.metrics import Collection, Metric


@flax.struct.dataclass
class Mean(Metric):
    """The mean of values; all have the same weight, in large and small chunks alike.

    Attributes:
        total: the sum of the values.
        count: the number of values.
    """

    total: float
    count: int

    @classmethod
    def of(cls, values: np.ndarray, where: np.ndarray | None = None) -> Self:
        """The mean of the values in an array, of any shape.

        Args:
            values: numbers or bools.
            where: bool, True for the values that count, broadcastable to their shape; None for all.
        """
        where = np.broadcast_to(True if where is None else where, np.shape(values))
        total = np.sum(values, where=where, dtype=np.float64)
        return cls(float(total), int(np.count_nonzero(where)))

    def merge(self, other: Self) -> Self:
        return type(self)(self.total + other.total, self.count + other.count)

    def compute(self) -> float:
        return self.total / self.count


@flax.struct.dataclass
class RootMean(Mean):
    """The square root of the mean of values, such as a standard deviation from variances."""

    def compute(self) -> float:
        return math.sqrt(super().compute())


@flax.struct.dataclass
class Deviation(Metric):
    """The standard deviation of values: the root of their mean squared distance from the mean.

    Merges centred sums (Chan, Golub and LeVeque), which avoids cancellation.

    Attributes:
        count: the number of values.
        mean: the mean of the values.
        squares: the sum of the squared distances from the mean.
    """

    count: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: np.ndarray) -> Self:
        """The deviation of the values in an array, of any shape."""
        mean = np.mean(values, dtype=np.float64)
        return cls(np.size(values), float(mean), float(np.sum(np.square(values - mean))))

    def merge(self, other: Self) -> Self:
        count, shift = self.count + other.count, other.mean - self.mean
        between = shift**2 * (self.count * other.count / count)
        mean = self.mean + shift * (other.count / count)
        return type(self)(count, mean, self.squares + other.squares + between)

    def compute(self) -> float:
        return math.sqrt(self.squares / self.count)


def merged(chunks: Iterable[Mapping[str, Metric]]) -> dict[str, float]:
    """Merges the figures of all chunks and computes them, by name.

    Args:
        chunks: the contribution of each chunk to every figure, under the same names.
    """
    chunks = iter(chunks)
    total = Collection.create_collection(**next(chunks))
    for figures in chunks:
        total = total.merge(total.replace(**figures))
    return total.compute()
