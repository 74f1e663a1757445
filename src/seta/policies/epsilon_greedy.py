"""Epsilon-greedy: keeps the samples with the highest running mean losses, and some others."""

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
    """Keeps the hardest samples, plus a few of the others at random.

    Of N samples it keeps K = (1 - r) N: the (1 - e) K samples with the highest scores, and e K of
    the others at random. A sample's score s is a running mean of its losses,
    s = (1 - a) s + a loss. All weights are 1.

    Source: Raju, Daruwalla, Lipasti, "Accelerating Deep Learning with Dynamic Data Pruning",
    arXiv 2111.12621. The paper's a, e and period are not published; the defaults are those of a
    published port of its UCB variant, and e = 0.1. As there, samples are selected every few epochs.
    Difference: samples that were never trained count as the hardest, so that all are tried.

    Limitation: it prefers hard samples without correcting weights, and wrong labels are hard too.
    Memory: 4 bytes per sample.

    Args:
        prune_ratio: r, the share of samples to prune, in [0, 1).
        epsilon: e in [0, 1], the share of the kept samples that is drawn at random.
        momentum: a in (0, 1], the weight of the newest loss.
        every: Number of epochs between two selections, >= 1; None: epochs // 20, at least 1.
    """

    prune_ratio: float = 0.3
    epsilon: float = 0.1
    momentum: float = 0.8
    every: int | None = None

    columns: ClassVar[tuple[str, ...]] = ("mean",)

    @classmethod
    def at_budget(cls, budget: float, /) -> EpsilonGreedy:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.fraction(self, "epsilon", "the share of the kept samples drawn at random")
        checks.momentum(self, "momentum")
        if self.every is not None:
            checks.at_least_one(self, "every", "the number of epochs between two selections")

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the running means."""
        return {"mean": running.mean(columns["mean"], losses, self.momentum)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the running means."""
        return columns["mean"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 for the highest scores, and the probability that keeps e K of the others."""
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
