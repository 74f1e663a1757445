"""RS2: random subsets without replacement, so that all samples are trained equally often."""

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
    """Keeps the next share 1 - r of a random order of the samples in each epoch; all weights are 1.

    The order is a random number per sample (its coin). Each epoch continues where the last one
    stopped. When a pass over the order ends together with an epoch, a new order is drawn.

    Source: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of
    Learning", ICLR 2024, arXiv 2305.18424, the variant without replacement. Differences: a pass
    that ends within an epoch continues in the same order, so that all samples are trained equally
    often (there the rest of the order is dropped). Epochs are limited by values of the random
    numbers instead of by counts, so a few samples near a limit come twice in a pass, or not at all.

    Under a budget, give r = 1 - budget: the method does not see the budget.

    Args:
        prune_ratio: r, the share of samples to prune per epoch, in [0, 1).
    """

    prune_ratio: float = 0.3

    @classmethod
    def at_budget(cls, budget: float, /) -> RS2:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r, with the coins shifted by what was trained before."""
        share = 1 - self.prune_ratio
        start = epoch - epoch % _rounds(share)
        offset = math.fmod((epoch - start) * share, 1.0)
        curve = KeepCurve.constant(histogram, share, coin_epoch=start)
        return replace(curve, coin_offset=offset)


def _rounds(share: float) -> int:
    """Returns after how many epochs a pass first ends together with an epoch, to within 1e-9.

    It is the denominator of a fraction nearer to the share than all with smaller ones, hence of a
    convergent of its continued fraction (Khinchin, "Continued Fractions", theorem 16).
    """
    exact = rest = Fraction(share)
    before, epochs = 0, 1
    while abs(exact * epochs - round(exact * epochs)) >= _NEAR:
        rest = 1 / (rest - math.floor(rest))
        before, epochs = epochs, math.floor(rest) * epochs + before
    return epochs
