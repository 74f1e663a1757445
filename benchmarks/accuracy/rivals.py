"""Rivals: what a user can do by hand at the cost of a pruned run, to compare methods with.

They are no methods of the library: one is told what nobody knows of real data, the others need no
losses. Suites name those that they run; each trains as many samples as methods do at its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.task import Task, Trial
from seta import RS2, KeepCurve, Random
from seta.comparison.contenders import Contender
from seta.engine import LossHistogram, Policy
from seta.engine.curves.policy import Columns
from seta.policies.quotas import quotas


@dataclass(frozen=True)
class HardestCut:
    """Leaves out the hardest samples from a third of the run on; all others take turns, as in RS2.

    Hardest by a running mean of their losses; as many as have a wrong label. It is the rule of
    small losses with one net, told the share of wrong labels (as in Han et al., "Co-teaching",
    NeurIPS 2018).

    Args:
        prune_ratio: The share to prune.
        share: The share of the samples to leave out for good.
    """

    prune_ratio: float
    share: float

    columns: ClassVar[tuple[str, ...]] = ("level",)
    every: ClassVar[int] = 1

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the running means, each new loss a half of them."""
        level = columns["level"]
        return {"level": np.where(np.isnan(level), losses, (level + losses) / 2)}

    def score(self, columns: Columns, /) -> NDArray[np.float32]:
        """Returns the running means."""
        level: NDArray[np.float32] = columns["level"]
        return level

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns RS2's curve; from a third of the run on, without the hardest samples."""
        if epoch < epochs / 3 or not self.share or not histogram.seen:
            return RS2(self.prune_ratio)(histogram, epoch, epochs)
        of_easy = min(1.0, (1 - self.prune_ratio) / (1 - self.share))
        easy = histogram.centres <= histogram.quantile(1 - self.share)
        walk = RS2(1 - of_easy)(histogram, epoch, epochs)
        return replace(walk, keep=np.where(easy, of_easy, 0.0))


@dataclass(frozen=True)
class EqualQuotas:
    """Keeps as many samples of each class, at random; all of a class that has fewer.

    Args:
        prune_ratio: The share to prune.
    """

    prune_ratio: float

    stratified: ClassVar[bool] = True

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the same probability for all samples of a class."""
        counts = histogram.by_stratum
        assert counts is not None
        sizes = counts.sum(axis=1)
        each = quotas(np.ones(len(sizes)), sizes, (1 - self.prune_ratio) * histogram.total)
        keep = each / np.maximum(sizes, 1)
        return KeepCurve(np.repeat(keep[:, None], histogram.bins, axis=1), keep)


class Resampled:
    """A task whose samples are drawn with replacement, each class as often as any other.

    As with torch's `WeightedRandomSampler` and weights of one over the size of the class. Which
    samples the loader asks for changes nothing.

    Args:
        task: With classes.
        seed: Of the draws.
    """

    def __init__(self, task: Task, seed: int) -> None:
        assert task.classes is not None
        self._task, self.dataset = task, self
        self.batch_size, self.settings = task.batch_size, task.settings
        self.classes, self.wrong = task.classes, None  # the loader's indices do not tell
        self._members = [np.flatnonzero(task.classes == c) for c in np.unique(task.classes)]
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self._task.dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        """Returns as many samples as asked for."""
        chosen = self._rng.integers(0, len(self._members), len(indices))
        drawn = [self._rng.choice(self._members[one]) for one in chosen]
        return self._task.dataset.__getitems__([int(index) for index in drawn])

    def trial(self, seed: int) -> Trial:
        """Returns a new net, and its optimizer."""
        return self._task.trial(seed)


CUT, QUOTAS, RESAMPLED = "Hardest cut, share known", "Equal quotas", "Classes resampled"

Make = Callable[[float, Mapping[str, Any]], Policy]
RIVALS: dict[str, Make] = {
    CUT: lambda budget, options: HardestCut(1 - budget, options["wrong"]),
    QUOTAS: lambda budget, options: EqualQuotas(1 - budget),
    RESAMPLED: lambda budget, options: Random(1 - budget),
}
"""Each made of a budget, and the options of the task."""


def rival(name: str, budget: float, options: Mapping[str, Any]) -> Contender:
    """Returns a rival at a budget, on a task with these options."""
    return Contender(name, budget, own=RIVALS[name](budget, options))
