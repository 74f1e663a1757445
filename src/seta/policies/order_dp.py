"""OrderDP: a random pool, and of it the hardest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks, ranking


@dataclass(frozen=True)
class OrderDP:
    """Draws a random pool of the samples and keeps the hardest of the pool; weight 1.

    Source: OrderDP, ICLR 2026, as a third party describes it. The share of each epoch is
    pool * top. Differences: the limit is taken from the losses of all samples, of which the pool is
    a fair draw, so that without a budget the number kept varies by chance (there it is exact);
    samples never trained count as the hardest.

    Args:
        pool: Share of the samples that is drawn, in (0, 1].
        top: Share of the pool that is kept, in (0, 1].
    """

    pool: float = 0.5
    top: float = 0.6

    @classmethod
    def at_budget(cls, budget: float, /) -> OrderDP:
        """Returns the method as published at its share of 0.3; else pool and top prune alike."""
        default = cls()
        if budget == default.pool * default.top:
            return default
        return cls(pool=math.sqrt(budget), top=math.sqrt(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.share(self, "pool", "the share of the samples that is drawn")
        checks.share(self, "top", "the share of the pool that is kept")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns `pool` for the highest losses, and 0 for the others."""
        keep, unseen = ranking.highest(histogram, self.top * histogram.total)
        return KeepCurve(self.pool * keep, self.pool * unseen)
