"""RePB: a sample against the batch that it was last seen in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks, running


@dataclass(frozen=True)
class RePB:
    """Keeps 1 - r of the samples that were below the mean loss of their own batch, all others.

    A loss is compared with those of the same net, at the same moment, so that losses of different
    ages can be compared.

    Source: RePB, ICLR 2026, as a third party describes it; its r is not known to us, and its window
    of batches is one here. Difference: there a sample's weight is the epochs so far over the times
    that it was chosen, a figure per sample and without bound; here it is the expected one of a
    sample that stays where it is, 1 / (1 - r) below the mean and 1 above. Of several processes each
    has batches of its own.

    Args:
        prune_ratio: r in [0, 1).
    """

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns how far each loss lies above the mean of its batch."""
        return running.finite(losses - np.float64(math.fsum(losses.tolist()) / len(losses)))

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r below 0, and 1 from there on."""
        below = np.arange(histogram.bins) < np.searchsorted(histogram.edges[1:], 0.0, "right")
        keep = np.where(below, 1 - self.prune_ratio, 1.0)
        return KeepCurve(keep, 1.0, 1 / keep, unbiased=True)
