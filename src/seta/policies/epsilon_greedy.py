"""Epsilon-greedy: the hardest samples by a running mean of their losses, and some of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns, period
from seta.policies import checks, ranking, running


@dataclass(frozen=True)
class EpsilonGreedy:
    """Keeps the (1 - e) K samples of the highest scores and e K of the others at random; weight 1.

    K is the share 1 - r of the samples. The score is a running mean of the sample's losses,
    s = (1 - a) s + a loss.

    Source: Raju, Daruwalla, Lipasti, "Accelerating Deep Learning with Dynamic Data Pruning",
    arXiv 2111.12621. Its a, e and period are not known to us; the defaults are those of a published
    port of its sister method UCB, and e = 0.1. Samples are chosen anew every few epochs, as there.
    Difference: samples never trained count as the hardest, so that all are tried.

    Prefers hard samples without weights: wrong labels are hard, too. Keeps 4 bytes per sample.

    Args:
        prune_ratio: r in [0, 1).
        epsilon: e in [0, 1], the share of K that is drawn at random.
        momentum: a in (0, 1], the part of the newest loss.
        every: Epochs from one choice to the next, >= 1; None: a twentieth of the run.
    """

    prune_ratio: float = 0.3
    epsilon: float = 0.1
    momentum: float = 0.8
    every: int | None = None

    columns: ClassVar[tuple[str, ...]] = ("mean",)

    @classmethod
    def at_budget(cls, budget: float, /) -> EpsilonGreedy:
        """Returns the method whose ratio makes up a budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "epsilon", "the share of the kept samples drawn at random")
        checks.momentum(self, "momentum")
        if self.every is not None:
            checks.at_least_one(self, "every", "the epochs from one choice to the next")

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the running means."""
        return {"mean": running.mean(columns["mean"], losses, self.momentum)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the running means."""
        return columns["mean"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 for the highest scores, and for the others what makes e K of them."""
        count = (1 - self.prune_ratio) * histogram.total
        greedy = (1 - self.epsilon) * count
        keep, unseen = ranking.highest(histogram, greedy)
        others = histogram.total - greedy
        explore = (count - greedy) / others if others else 1.0
        return KeepCurve(
            keep + (1 - keep) * explore,
            unseen + (1 - unseen) * explore,
            coin_epoch=epoch - epoch % period(self.every, epochs),
        )
