"""Random: a fresh random subset each epoch, the rival that costs nothing to try."""

from __future__ import annotations

from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class Random:
    """Keeps every sample with probability 1 - r, drawn anew each epoch; weight 1.

    Known as "dynamic random" in the tables of the field.

    Args:
        prune_ratio: r in [0, 1).
    """

    prune_ratio: float = 0.3

    @classmethod
    def at_budget(cls, budget: float, /) -> Random:
        """Returns the method whose ratio makes up a budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r."""
        return KeepCurve.constant(histogram, 1 - self.prune_ratio)
