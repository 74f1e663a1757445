"""The keep curve: with what probability and weight a sample is kept, for each loss bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seta.engine.cluster import DifficultyGroups
from seta.engine.histogram import LossHistogram


@dataclass(frozen=True, eq=False)
class KeepCurve:
    """What an epoch does with a sample, given its latest loss.

    Attributes:
        keep: float64 (bins,), keep probability in [0, 1] of each bin.
        unseen: Keep probability of the samples without a loss, in [0, 1].
        weight: float64 (bins,), factor of a kept sample's loss, finite and >= 0; None: all 1.
        unseen_weight: The factor for the samples without a loss.
        unbiased: Whether weight = 1 / keep throughout, so that the expected weighted loss over the
            kept samples is the loss over all.
        groups: The difficulty groups behind the curve, where it has any; for reports.
        window: (first, past the last) group that the epoch trains on; for reports.
        coin_epoch: The epoch whose coins are tossed; None: the current one.
        coin_offset: Turns the coins, in [0, 1): keep if (coin - offset) mod 1 < probability.
    """

    keep: NDArray[np.float64]
    unseen: float = 1.0
    weight: NDArray[np.float64] | None = None
    unseen_weight: float = 1.0
    unbiased: bool = False
    groups: DifficultyGroups | None = None
    window: tuple[int, int] | None = None
    coin_epoch: int | None = None
    coin_offset: float = 0.0

    @classmethod
    def constant(
        cls, histogram: LossHistogram, keep: float, *, coin_epoch: int | None = None
    ) -> KeepCurve:
        """Returns the curve that keeps every sample with the same probability."""
        return cls(np.full(histogram.bins, float(keep)), float(keep), coin_epoch=coin_epoch)

    def validate(self, histogram: LossHistogram) -> None:
        """Checks the curve against the histogram that it was made for.

        Raises:
            ValueError: A shape, a probability or a weight is not what it must be.
        """
        for name, values in (("keep", self.keep), ("weight", self.weight)):
            if values is not None and np.shape(values) != (histogram.bins,):
                raise ValueError(
                    f"KeepCurve.{name} must have one entry for each of the {histogram.bins} bins, "
                    f"got shape {np.shape(values)}: build it from histogram.centres"
                )
        keep, weight = self.keep_by_bin, self.weight_by_bin
        if not (np.all(keep >= 0) and np.all(keep <= 1)):
            raise ValueError(
                "KeepCurve.keep and .unseen must lie in [0, 1], "
                f"got values from {np.min(keep)} to {np.max(keep)}"
            )
        if weight is not None and not (np.all(np.isfinite(weight)) and np.all(weight >= 0)):
            raise ValueError(
                "KeepCurve.weight and .unseen_weight must be finite and >= 0, "
                f"got values from {np.min(weight)} to {np.max(weight)}"
            )
        if self.unbiased and not np.all(keep > 0):
            raise ValueError(
                "KeepCurve.unbiased needs keep probabilities above 0 in every bin: what is never "
                "kept cannot be made up for by weights"
            )
        if not 0 <= self.coin_offset < 1:
            raise ValueError(f"KeepCurve.coin_offset must lie in [0, 1), got {self.coin_offset}")

    @property
    def keep_by_bin(self) -> NDArray[np.float64]:
        """Keep probabilities, the unseen last: float64 (bins + 1,)."""
        return np.append(np.asarray(self.keep, np.float64), self.unseen)

    @property
    def weight_by_bin(self) -> NDArray[np.float64] | None:
        """Weights, the unseen last: float64 (bins + 1,); None where all are 1."""
        if self.weight is None and self.unseen_weight == 1:
            return None
        weight = np.ones(len(self.keep)) if self.weight is None else np.asarray(self.weight)
        return np.append(weight.astype(np.float64), self.unseen_weight)

    def expected(self, histogram: LossHistogram) -> float:
        """Returns the expected number of kept samples."""
        return float(histogram.counts @ self.keep + histogram.unseen * self.unseen)
