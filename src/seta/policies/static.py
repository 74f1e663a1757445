"""Static: keeps one random subset for the whole run."""

from __future__ import annotations

from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks


@dataclass(frozen=True)
class Static:
    """Keeps the same random share 1 - r of the samples in every epoch; all weights are 1.

    (The published SeTa package keeps the first int((1 - r) N) rows instead; so does `seta.prune`.)

    Args:
        prune_ratio: r, the share of samples to prune, in [0, 1).
    """

    prune_ratio: float = 0.3

    @classmethod
    def at_budget(cls, budget: float, /) -> Static:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r, with the coins of epoch 0."""
        return KeepCurve.constant(histogram, 1 - self.prune_ratio, coin_epoch=0)
