"""InfoBatch: prunes samples below the mean loss at random, and reweights those that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class InfoBatch(checks.Annealed):
    """Prunes a random share of the samples below the mean loss, and reweights the rest of them.

    A sample below the mean is kept with probability 1 - r and then has weight 1 / (1 - r), so that
    the expected loss is that of full training. Samples at or above the mean are all kept, with
    weight 1. The last epochs (after the share `delta`) train on all samples.

    Source: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning",
    ICLR 2024, arXiv 2303.04947. Differences: samples without a loss are kept; "below the mean" is
    decided per histogram bin, and the mean is that of the samples with a loss.

    Limitations: it saves at most r times the share of samples below the mean, so 70 % is out of
    reach. With small batches, weights of 1 / (1 - r) make single steps larger.

    Args:
        prune_ratio: r, the share to prune of the samples below the mean loss, in [0, 1).
        delta: Share of the epochs that prune, in [0, 1]; the rest train on all samples.
    """

    prune_ratio: float = 0.5
    delta: float = 0.875

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "delta", "the share of the epochs that prune")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r below the mean loss and 1 from there on; 1 in the last epochs."""
        if epoch >= self.pruning_epochs(epochs) or not histogram.seen:
            return KeepCurve.constant(histogram, 1.0)
        below = np.arange(histogram.bins) < histogram.bin_of(histogram.mean())
        keep = np.where(below, 1 - self.prune_ratio, 1.0)
        return KeepCurve(keep, 1.0, 1 / keep, unbiased=True)
