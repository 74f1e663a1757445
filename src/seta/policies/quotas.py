"""What methods by class share: the part of an epoch that each class gets, and how it is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.fit import filled

LEAST = 2.0**-970  # weights below count as this one: far behind all others, but not never


def quotas(
    wanted: NDArray[np.float64], sizes: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns shares of the total in proportion to what is wanted, none above its size.

    Args:
        wanted: float64 (classes,), at least 0; a class that wants nothing comes last, but comes.
        sizes: int64 (classes,).
        total: Of all classes together.
    """
    each = np.maximum(wanted, LEAST) / np.maximum(sizes, 1)
    return sizes * fill(each, sizes, total)


def fill(
    weights: NDArray[np.float64], counts: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns probabilities in proportion to weights above 0, cut at 1, that make up the total."""
    if total >= int(counts.sum()):
        return np.ones(len(weights))
    return filled(weights, counts, total)[0]
