"""SeTa: random pruning against redundancy, and a window that slides from easy to hard groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seta.engine.curves.cluster import difficulty_groups
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class SeTa:
    """Keeps a random share 1 - r of the samples in a window of difficulty groups; weight 1.

    Source: Zhou, Gao, Wang, "Scale Efficient Training for Large Datasets", CVPR 2025,
    arXiv 2503.13385. 1-D k-means splits the losses into k groups, easiest first. Epoch n trains on
    w neighbouring groups from n mod (k - w + 1) on: the window slides from easy to hard and wraps.
    The last epochs anneal: no window, random pruning alone.

    Where paper and published code differ, the code is followed, since it made the tables:
    w = round(k * window), half to even (the paper has the ceiling: with the defaults it would prune
    nothing by difficulty). The first epoch knows no losses: random pruning alone. Differences of
    ours: the groups are the optimum over all losses (the published code runs one k-means start on
    the randomly kept ones); samples without a loss are kept with probability 1 - r in every window
    (there they have the loss 3.0); annealing draws with probability 1 - r (there: an exact count).

    The saving is an outcome, not a setting: late in training the easiest group holds 85 - 90 % of
    the samples, so that nearly full epochs and tiny ones alternate.

    Args:
        prune_ratio: r in [0, 1).
        groups: k >= 1.
        window: Share of the groups that an epoch trains on, in (0, 1].
        delta: Share of the epochs that prune, in [0, 1]; the rest anneals.
    """

    prune_ratio: float = 0.1
    groups: int = 5
    window: float = 0.9
    delta: float = 0.875

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "delta", "the share of the epochs that prune")
        checks.at_least_one(self, "groups", "into how many the losses are split")
        checks.share(self, "window", "the share of the groups that an epoch trains on")
        if round(self.groups * self.window) < 1:
            raise ValueError(
                f"round(groups * window) must be at least 1, got groups={self.groups} and "
                f"window={self.window!r}: no group would be trained; make one of them larger"
            )

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 - r inside the window and 0 outside; 1 - r everywhere in the annealing."""
        share = 1 - self.prune_ratio
        if epoch >= checks.pruning_epochs(self.delta, epochs) or not histogram.seen:
            return KeepCurve.constant(histogram, share)
        groups = difficulty_groups(histogram, self.groups)
        width = max(1, round(len(groups) * self.window))
        start = epoch % (len(groups) - width + 1)
        keep = np.zeros(histogram.bins)
        keep[groups.first_bin[start] : groups.first_bin[start + width]] = share
        return KeepCurve(keep, share, groups=groups, window=(start, start + width))
