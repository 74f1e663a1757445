"""InfoBatch: prune some of the samples below the mean loss, and make up for it by weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class InfoBatch:
    """Keeps 1 - r of the samples below the mean loss, with weight 1 / (1 - r), and all others.

    Source: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
    ICLR 2024, arXiv 2303.04947. The expected loss is that of full training. The last epochs train
    on everything. Differences: samples without a loss are kept; "below the mean" is decided by
    histogram bin, with the mean taken over the samples that have a loss.

    Saves at most r times the share of samples below the mean: 70 % is out of reach. Weights of
    1 / (1 - r) make single steps larger under small batches.

    Args:
        prune_ratio: r in [0, 1).
        delta: Share of the epochs that prune, in [0, 1]; the rest trains on everything.
    """

    prune_ratio: float = 0.5
    delta: float = 0.875

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "delta", "the share of the epochs that prune")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r below the mean and 1 from there on, until the annealing."""
        if epoch >= checks.pruning_epochs(self.delta, epochs) or not histogram.seen:
            return KeepCurve.constant(histogram, 1.0)
        below = np.arange(histogram.bins) < histogram.bin_of(histogram.mean())
        keep = np.where(below, 1 - self.prune_ratio, 1.0)
        return KeepCurve(keep, 1.0, 1 / keep, unbiased=True)
