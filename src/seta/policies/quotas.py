"""Class quotas of an epoch, and the probabilities that fill them, for methods by class."""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.fit import filled

LEAST = 2.0**-970  # weights below count as this one: far behind all others, but not never


def guess(sizes: NDArray[np.int64]) -> float:
    """Returns log C, the loss of a uniform guess among the C classes that have samples.

    Rounded correctly, so that all CPUs agree; C is 2 at least.

    Args:
        sizes: int64 (classes,), samples in each class.
    """
    return float(Decimal(max(2, int(np.count_nonzero(sizes)))).ln(Context(prec=28)))


def quotas(
    wanted: NDArray[np.float64], sizes: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns the quota of each class, proportional to `wanted` and at most its size.

    Args:
        wanted: float64 (classes,), >= 0; a class with 0 gets what the others leave.
        sizes: int64 (classes,), samples in each class.
        total: Sum of the quotas.
    """
    each = np.maximum(wanted, LEAST) / np.maximum(sizes, 1)
    return sizes * fill(each, sizes, total)


def fill(
    weights: NDArray[np.float64], counts: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns probabilities proportional to weights > 0, cut at 1, that keep `total` samples."""
    if total >= int(counts.sum()):
        return np.ones(len(weights))
    return filled(weights, counts, total)[0]
