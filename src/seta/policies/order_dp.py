"""OrderDP: draws a random pool, and keeps its hardest samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks, ranking


@dataclass(frozen=True)
class OrderDP:
    """Draws a random pool of samples in each epoch, and keeps the hardest samples of the pool.

    An epoch keeps the share pool * top of the samples. All weights are 1.

    Source: Jin et al., "OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning
    Framework", ICLR 2026, arXiv 2606.08574; written from a third party's description. Differences:
    the loss threshold is that of all samples instead of the pool, so that without a budget the
    number of kept samples varies by chance (there it is exact); samples that were never trained
    count as the hardest. The defaults are ours.

    Args:
        pool: Share of the samples that is drawn into the pool, in (0, 1].
        top: Share of the pool that is kept, in (0, 1].
    """

    pool: float = 0.5
    top: float = 0.6

    @classmethod
    def at_budget(cls, budget: float, /) -> OrderDP:
        """Returns the defaults for a budget of 0.3; else sqrt(budget) for both pool and top."""
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
