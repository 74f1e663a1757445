"""BLS: the losses of a sample's batches in place of its own, for another method to judge by."""

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
    """Scores a sample by the mean losses of the batches that it was in, smoothed; another judges.

    s = a s + (1 - a) m, with m the mean loss of the batch, the same for each of its members. So it
    needs one number per batch instead of one per sample.

    Source: BLS, CVPR 2026, its published code. Of several processes each has batches of its own.
    The mean of a batch tells little of one sample: the scores lie close together, and a base that
    looks at extremes sees mostly chance. Keeps 4 bytes per sample.

    Args:
        base: The method that makes the curve, from the scores; one that keeps none itself.
        smoothing: a in [0, 1), the part of what was before.
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
        checks.below_one(self, "smoothing", "the part of the earlier batches in the score")

    @property
    def stratified(self) -> bool:
        """Whether the base looks at the losses class by class."""
        return is_stratified(self.base)

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns the mean of the batch, for each of its members."""
        return np.full(len(losses), math.fsum(losses.tolist()) / len(losses), np.float32)

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the smoothed means."""
        return {"smoothed": running.mean(columns["smoothed"], losses, 1 - self.smoothing)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the smoothed means."""
        return columns["smoothed"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve of the base."""
        return self.base(histogram, epoch, epochs)
