"""The keep curve: with what probability and weight a sample is kept, for each loss bin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.cluster import DifficultyGroups
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.sums import dot
from seta.engine.numbers import real

_NOTES = "notes go into the epoch's row, and into saved states"


@dataclass(frozen=True, eq=False)
class KeepCurve:
    """What an epoch does with a sample, given its latest loss.

    Of a stratified histogram each array has one axis more, the strata, before the bins.

    Attributes:
        keep: float64 (bins,) or (strata, bins), keep probability in [0, 1] of each bin.
        unseen: Keep probability of the samples without a loss, in [0, 1]; or float64 (strata,).
        weight: As `keep`, factor of a kept sample's loss, finite and >= 0; None: all 1.
        unseen_weight: As `unseen`, the factor for the samples without a loss.
        unbiased: Whether weight = 1 / keep throughout, so that the expected weighted loss over the
            kept samples is the loss over all.
        groups: The difficulty groups behind the curve, where it has any; for reports.
        window: (first, past the last) group that the epoch trains on; for reports.
        coin_epoch: The epoch whose coins are tossed; None: the current one.
        coin_offset: Turns the coins, in [0, 1): keep if (coin - offset) mod 1 < probability.
        notes: Finite numbers by name that the policy finds in the next epoch's `histogram.notes`.
    """

    keep: NDArray[np.float64]
    unseen: float | NDArray[np.float64] = 1.0
    weight: NDArray[np.float64] | None = None
    unseen_weight: float | NDArray[np.float64] = 1.0
    unbiased: bool = False
    groups: DifficultyGroups | None = None
    window: tuple[int, int] | None = None
    coin_epoch: int | None = None
    coin_offset: float = 0.0
    notes: Mapping[str, float] = field(default_factory=dict)

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
        self._check_shapes(histogram)
        keep, weight = self.keep_by_cell, self.weight_by_cell
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
        for name, value in self.notes.items():
            real(f"KeepCurve.notes[{name!r}]", value, -math.inf, math.inf, _NOTES, ends="()")

    def _check_shapes(self, histogram: LossHistogram) -> None:
        bins: tuple[int, ...] = (histogram.bins,)
        by_stratum = histogram.by_stratum
        if by_stratum is not None and np.ndim(self.keep) == 2:
            bins = (len(by_stratum), histogram.bins)
        for name, values in (("keep", self.keep), ("weight", self.weight)):
            if values is not None and np.shape(values) != bins:
                raise ValueError(
                    f"KeepCurve.{name} must have one entry for each of the {histogram.bins} bins "
                    f"(of each stratum, where the histogram has strata), got shape "
                    f"{np.shape(values)}: build it from histogram.centres"
                )
        for name, value in (("unseen", self.unseen), ("unseen_weight", self.unseen_weight)):
            if np.shape(value) not in ((), bins[:-1]):
                raise ValueError(
                    f"KeepCurve.{name} must be a number, or one for each stratum, "
                    f"got shape {np.shape(value)}"
                )

    @property
    def strata(self) -> int | None:
        """Number of strata; None where the curve has none."""
        return len(self.keep) if np.ndim(self.keep) == 2 else None

    @property
    def keep_by_cell(self) -> NDArray[np.float64]:
        """Keep probabilities by cell, the unseen (of each stratum) last: float64 (cells,)."""
        return _cells(self.keep, self.unseen)

    @property
    def weight_by_cell(self) -> NDArray[np.float64] | None:
        """Weights by cell, the unseen (of each stratum) last: float64; None where all are 1."""
        if self.weight is None and np.all(np.equal(self.unseen_weight, 1)):
            return None
        weight = np.ones(np.shape(self.keep)) if self.weight is None else self.weight
        return _cells(weight, self.unseen_weight)

    def with_cells(
        self, keep: NDArray[np.float64], weight: NDArray[np.float64] | None
    ) -> KeepCurve:
        """Returns the curve with other values by cell: inverse of `keep_by_cell`."""
        kept, unseen = _split(keep, self.strata)
        if weight is None:
            return replace(self, keep=kept, unseen=unseen, weight=None, unseen_weight=1.0)
        weights, unseen_weight = _split(weight, self.strata)
        return replace(self, keep=kept, unseen=unseen, weight=weights, unseen_weight=unseen_weight)

    def for_histogram(self, histogram: LossHistogram) -> KeepCurve:
        """Returns the curve with as many strata as the histogram: one for all is repeated."""
        if histogram.by_stratum is None or self.strata is not None:
            return self
        strata = len(histogram.by_stratum)
        weight = self.weight_by_cell
        curve = replace(self, keep=np.tile(self.keep, (strata, 1)))
        return curve.with_cells(
            np.tile(self.keep_by_cell, strata), None if weight is None else np.tile(weight, strata)
        )

    def mean_keep(self, histogram: LossHistogram) -> NDArray[np.float64]:
        """Returns the keep probability of each bin, over all strata: float64 (bins,)."""
        if self.strata is None or histogram.by_stratum is None:
            return np.asarray(self.keep, np.float64)
        kept = (histogram.by_stratum[:, :-1] * self.keep).sum(axis=0)
        mean: NDArray[np.float64] = self.keep.mean(axis=0)  # where nobody is
        some = histogram.counts > 0
        mean[some] = kept[some] / histogram.counts[some]
        return mean

    def expected(self, histogram: LossHistogram) -> float:
        """Returns the expected number of kept samples, the same on every CPU (`sums`)."""
        return dot(histogram.cells, self.for_histogram(histogram).keep_by_cell)


def _cells(values: Any, unseen: Any) -> NDArray[np.float64]:
    """Returns the values of the bins, and of the unseen after them, stratum by stratum."""
    bins = np.asarray(values, np.float64)
    last = np.broadcast_to(np.asarray(unseen, np.float64), bins.shape[:-1])
    return np.concatenate([bins, last[..., None]], axis=-1).reshape(-1)


def _split(
    cells: NDArray[np.float64], strata: int | None
) -> tuple[NDArray[np.float64], float | NDArray[np.float64]]:
    """Inverse of `_cells`."""
    if strata is None:
        return cells[:-1], float(cells[-1])
    rows = cells.reshape(strata, -1)
    return rows[:, :-1], rows[:, -1]
