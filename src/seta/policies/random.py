"""Random: keeps a new random subset in each epoch, the baseline for pruning methods."""

from __future__ import annotations

from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class Random:
    """Keeps each sample with probability 1 - r, drawn again in each epoch; all weights are 1.

    Called "dynamic random" in the literature.

    Args:
        prune_ratio: r, the probability of pruning a sample, in [0, 1).
    """

    prune_ratio: float = 0.3

    @classmethod
    def at_budget(cls, budget: float, /) -> Random:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r."""
        return KeepCurve.constant(histogram, 1 - self.prune_ratio)
