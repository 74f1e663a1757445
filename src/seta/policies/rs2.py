"""RS2: random subsets without replacement, so that every sample is seen equally often."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from seta.engine.curve import KeepCurve
from seta.engine.histogram import LossHistogram
from seta.policies import checks


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

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio("prune_ratio", self.prune_ratio)

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1 - r, the coins turned by what was walked through."""
        share = 1 - self.prune_ratio
        start = max(past for past in range(epoch + 1) if _whole(past * share))
        offset = math.fmod((epoch - start) * share, 1.0)
        curve = KeepCurve.constant(histogram, share, coin_epoch=start)
        return replace(curve, coin_offset=offset)


def _whole(walked: float) -> bool:
    """Returns whether so many rounds are whole ones."""
    return abs(walked - round(walked)) < 1e-9
