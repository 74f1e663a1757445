"""BLS: scores samples by the mean losses of their batches, for another method to prune by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns, KeepsScore, Policy, SeesBatch, is_stratified
from seta.policies import checks, running
from seta.policies.seta import SeTa


@dataclass(frozen=True)
class BLS:
    """Applies another method to moving averages of batch losses, in place of per-sample losses.

    When a sample is trained in a batch of mean loss m, its score s becomes a s + (1 - a) m. The
    method `base` then makes the keep curve from the scores. So one number per batch is enough.

    Source: Zhou et al., "Batch Loss Score for Dynamic Data Pruning", CVPR 2026, arXiv 2604.04681,
    and its published code. With several processes, a batch is one process's batch.

    Limitation: a batch mean says little about one sample. The scores lie close together, and a base
    that selects extreme values selects mostly by chance. Memory: 4 bytes per sample.

    Args:
        base: The method that makes the keep curve from the scores; it must not keep a score itself.
        smoothing: a in [0, 1), the weight of the previous score.
    """

    base: Policy = field(default_factory=SeTa)
    smoothing: float = 0.8

    columns: ClassVar[tuple[str, ...]] = ("smoothed",)
    every: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if isinstance(self.base, (KeepsScore, SeesBatch, type)) or not callable(self.base):
            raise ValueError(
                f"base must be a method that judges by losses alone, such as seta.SeTa() or "
                f"seta.InfoBatch(), got {self.base!r}"
            )
        checks.below_one(self, "smoothing", "the weight of the previous score in the average")

    @property
    def stratified(self) -> bool:
        """Whether the base looks at the losses of each class."""
        return is_stratified(self.base)

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns the mean loss of the batch for each of its samples: float32 (B,)."""
        return np.full(len(losses), math.fsum(losses.tolist()) / len(losses), np.float32)

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the scores after one more batch."""
        return {"smoothed": running.mean(columns["smoothed"], losses, 1 - self.smoothing)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the scores."""
        return columns["smoothed"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the keep curve of the base."""
        return self.base(histogram, epoch, epochs)
