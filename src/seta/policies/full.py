"""Full: trains all samples in every epoch, the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram


@dataclass(frozen=True)
class Full:
    """Keeps all samples in every epoch, with weight 1: training without pruning."""

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the constant curve 1."""
        return KeepCurve.constant(histogram, 1.0)
