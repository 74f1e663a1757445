"""Keep probabilities that select the highest losses, for rank-based methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.histogram import LossHistogram


def highest(histogram: LossHistogram, count: float) -> tuple[NDArray[np.float64], float]:
    """Returns the probabilities that keep the `count` samples with the highest losses.

    Samples without a loss count as the highest of all. The bin at the threshold is kept in part, so
    that the expected number is exact.

    Args:
        histogram: Of the losses.
        count: In [0, histogram.total].

    Returns:
        float64 (bins,), and the probability of the unseen.
    """
    unseen = min(1.0, count / histogram.unseen) if histogram.unseen else 1.0
    left = max(0.0, count - histogram.unseen)
    above = histogram.seen - np.cumsum(histogram.counts)  # samples in higher bins
    part = (left - above) / np.maximum(histogram.counts, 1)
    return np.clip(part, 0.0, 1.0), unseen
