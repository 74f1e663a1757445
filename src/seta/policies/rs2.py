"""RS2: random subsets without replacement, so that every sample is seen equally often."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.policies import checks

_NEAR = Fraction(1, 10**9)  # of a round; floats are no nearer to decimals, in a run of any length


@dataclass(frozen=True)
class RS2:
    """Walks through a random order of the samples, a share 1 - r of it per epoch; weight 1.

    Source: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of
    Learning", ICLR 2024, arXiv 2305.18424, the variant without replacement. The order is the order
    of the coins: each epoch turns them by 1 - r, and whenever the walk has come round just as an
    epoch ends, a new order is drawn. Differences: where it comes round within an epoch it goes on
    in the same order, so that every sample is still seen equally often (there the rest of the order
    is dropped). Limits between epochs are those of uniform numbers rather than of the samples, so
    that a few samples near a limit come twice in a round or not at all.

    Under a budget give r = 1 - budget: the walk cannot know how far the budget goes.

    Args:
        prune_ratio: r in [0, 1).
    """

    prune_ratio: float = 0.3

    @classmethod
    def at_budget(cls, budget: float, /) -> RS2:
        """Returns the method whose ratio makes up a budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r, the coins turned by what was walked through."""
        share = 1 - self.prune_ratio
        start = epoch - epoch % _rounds(share)
        offset = math.fmod((epoch - start) * share, 1.0)
        curve = KeepCurve.constant(histogram, share, coin_epoch=start)
        return replace(curve, coin_offset=offset)


def _rounds(share: float) -> int:
    """Returns after how many epochs the walk first comes round just as one ends, to within 1e-9.

    It is the denominator of a fraction nearer to the share than all with smaller ones, hence of a
    convergent of its continued fraction (Khinchin, "Continued Fractions", theorem 16).
    """
    exact = rest = Fraction(share)
    before, epochs = 0, 1
    while abs(exact * epochs - round(exact * epochs)) >= _NEAR:
        rest = 1 / (rest - math.floor(rest))
        before, epochs = epochs, math.floor(rest) * epochs + before
    return epochs
