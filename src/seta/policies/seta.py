"""SeTa: random pruning, within a window that slides from easy to hard groups of samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seta.engine.curves.cluster import difficulty_groups
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class SeTa(checks.Annealed):
    """Trains a random share of the samples in a window of difficulty groups that slides by epoch.

    1-D k-means splits the losses into k groups, the easiest first. Epoch n trains on w neighbouring
    groups, starting at group n mod (k - w + 1): the window slides from easy to hard and starts
    again. Samples in the window are kept with probability 1 - r, all others are pruned. The first
    epoch, without losses, and the last ones (annealing, after the share `delta`) have no window:
    each sample is kept with probability 1 - r. All weights are 1.

    Source: Zhou, Gao, Wang, "Scale Efficient Training for Large Datasets", CVPR 2025,
    arXiv 2503.13385. Where the paper and its published code differ, this follows the code, which
    produced the reported results: w = round(k * window), half to even (the paper has the ceiling,
    which with the defaults would prune nothing by difficulty). Differences: the groups are the
    optimum over all losses (there: one k-means start on the randomly kept ones); samples without a
    loss are kept with probability 1 - r in every window (there they have the loss 3.0); annealing
    draws with probability 1 - r (there: an exact count).

    Limitation: without a budget, the saving cannot be set. Late in training the easiest group holds
    85 to 90 % of the samples, so that nearly full epochs and very short ones alternate.

    Args:
        prune_ratio: r, the share to prune of the samples in the window, in [0, 1).
        groups: k >= 1, the number of groups.
        window: Share of the groups that an epoch trains on, in (0, 1].
        delta: Share of the epochs that use the window, in [0, 1]; the rest anneal.
    """

    prune_ratio: float = 0.1
    groups: int = 5
    window: float = 0.9
    delta: float = 0.875

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "delta", "the share of the epochs that prune")
        checks.at_least_one(self, "groups", "the number of groups that the losses are split into")
        checks.share(self, "window", "the share of the groups that an epoch trains on")
        if round(self.groups * self.window) < 1:
            raise ValueError(
                f"round(groups * window) must be at least 1, got groups={self.groups} and "
                f"window={self.window!r}: no group would be trained; make one of them larger"
            )

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r inside the window and 0 outside; 1 - r everywhere while annealing."""
        share = 1 - self.prune_ratio
        if epoch >= self.pruning_epochs(epochs) or not histogram.seen:
            return KeepCurve.constant(histogram, share)
        groups = difficulty_groups(histogram, self.groups)
        width = max(1, round(len(groups) * self.window))
        start = epoch % (len(groups) - width + 1)
        keep = np.zeros(histogram.bins)
        keep[groups.first_bin[start] : groups.first_bin[start + width]] = share
        return KeepCurve(keep, share, groups=groups, window=(start, start + width))
