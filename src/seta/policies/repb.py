"""RePB: compares a sample's loss with the mean of the batch in which it was last trained."""

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
    """Prunes a random share of the samples that were below the mean loss of their own batch.

    Those samples are kept with probability 1 - r and then have weight 1 / (1 - r); all others are
    kept with weight 1. As a loss is compared only with losses of the same model at the same step,
    losses of different ages are comparable.

    Source: "Inconsistency Biases in Dynamic Data Pruning" (RePB), ICLR 2026,
    https://openreview.net/forum?id=Zw1Uw7u6Su; written from a third party's description, without
    its value of r. Differences: the window has one batch; there the weight of a sample is the
    number of epochs so far over the number of epochs that selected it, which has no bound, and here
    it is its expected value for a sample that stays on its side of the mean. With several
    processes, a batch is one process's batch.

    Args:
        prune_ratio: r, the share to prune of the samples below the mean, in [0, 1).
    """

    prune_ratio: float = 0.5

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns the difference of each loss to the mean of its batch: float32 (B,)."""
        return running.finite(losses - np.float64(math.fsum(losses.tolist()) / len(losses)))

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r below 0, and 1 from there on."""
        below = np.arange(histogram.bins) < np.searchsorted(histogram.edges[1:], 0.0, "right")
        keep = np.where(below, 1 - self.prune_ratio, 1.0)
        return KeepCurve(keep, 1.0, 1 / keep, unbiased=True)
