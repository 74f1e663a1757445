"""UCB: keeps the samples with the highest upper confidence bound of their losses."""

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
class UCB:
    """Keeps the share 1 - r of the samples with the highest upper confidence bound of the loss.

    The bound is s + c v. The running mean s becomes (1 - a) s + a loss, and the running variance v
    becomes (1 - a) v + a (loss - s)^2, with s as before this loss. All weights are 1.

    Source: Raju, Daruwalla, Lipasti, "Accelerating Deep Learning with Dynamic Data Pruning",
    arXiv 2111.12621. The paper's a, c and period are not published; the defaults are those of a
    published port. As there, samples are selected every few epochs. Difference: samples that were
    never trained count as the highest, so that all are tried.

    Limitation: it prefers hard samples without correcting weights, and wrong labels are hard too.
    Memory: 8 bytes per sample.

    Args:
        prune_ratio: r, the share of samples to prune, in [0, 1).
        confidence: c >= 0, the weight of the variance.
        momentum: a in (0, 1], the weight of the newest loss.
        every: Number of epochs between two selections, >= 1; None: epochs // 20, at least 1.
    """

    prune_ratio: float = 0.3
    confidence: float = 1.0
    momentum: float = 0.8
    every: int | None = None

    columns: ClassVar[tuple[str, ...]] = ("mean", "variance")

    @classmethod
    def at_budget(cls, budget: float, /) -> UCB:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.nonnegative(self, "confidence", "the weight of the variance in the bound")
        checks.momentum(self, "momentum")
        if self.every is not None:
            checks.at_least_one(self, "every", "the number of epochs between two selections")

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns running means and variances; a first loss has no variance."""
        mean, variance = columns["mean"], columns["variance"]
        gap = np.where(np.isnan(mean), 0.0, losses - mean.astype(np.float64))
        return {
            "mean": running.mean(mean, losses, self.momentum),
            "variance": running.mean(variance, gap * gap, self.momentum),
        }

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the upper bounds; the largest number where they leave the range of float32."""
        with np.errstate(over="ignore"):
            width = self.confidence * columns["variance"].astype(np.float64)
        return running.finite(columns["mean"] + width)

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns 1 for the highest bounds, and 0 for the others."""
        keep, unseen = ranking.highest(histogram, (1 - self.prune_ratio) * histogram.total)
        return KeepCurve(keep, unseen, coin_epoch=epoch - epoch % period(self.every, epochs))
