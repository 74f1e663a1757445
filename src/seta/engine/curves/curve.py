"""The keep curve: the keep probability and the loss weight of each loss bin."""

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
from seta.engine.numbers import integer, real

_LARGEST = float(np.finfo(np.float32).max)  # weights are float32
_NOTES = "notes go into the epoch's row, and into saved states"


@dataclass(frozen=True, eq=False)
class KeepCurve:
    """Keep probability and loss weight of a sample in an epoch, as a function of its latest loss.

    A policy returns one per epoch. If the policy looks at classes, the arrays may have the strata
    as an additional first axis.

    - To make one: the constructor, `constant`, `with_cells`, `for_histogram`.
    - To read one: `strata`, `keep_by_cell`, `weight_by_cell`, `mean_keep`, `expected`.
    - To check one: `validate`.

    Attributes:
        keep: Keep probability of each bin, in [0, 1]: float64 (bins,) or (strata, bins).
        unseen: Keep probability of samples without a loss, in [0, 1]: a float, or float64
            (strata,).
        weight: Factor of a kept sample's loss, finite and >= 0, same shape as `keep`; None: all 1.
        unseen_weight: Factor of the loss of samples without a loss so far, same shape as `unseen`.
        unbiased: Whether weight = 1 / keep in every bin, so that the expected weighted loss of the
            kept samples equals the loss of all samples. A budget then adjusts the weights too.
        groups: The difficulty groups that the curve was made from, if any; for reports.
        window: (first, past the last) group that the epoch trains on; for reports.
        coin_epoch: The epoch whose random numbers (coins) decide; None: the current one.
        coin_offset: Shift of the coins, in [0, 1): keep if (coin - offset) mod 1 < probability.
        notes: Finite numbers by name, which the policy gets back in the next epoch, in
            `histogram.notes`.

    Examples:
        >>> import numpy as np
        >>> losses = np.array([0.1, 0.2, 0.9, np.nan], np.float32)
        >>> histogram = LossHistogram.from_losses(losses)
        >>> keep = np.where(histogram.centres < histogram.mean(), 0.5, 1.0)
        >>> KeepCurve(keep).expected(histogram)           # two at 0.5, one at 1, one unseen
        3.0
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
        """Returns a curve with one keep probability for all samples.

        Args:
            histogram: The histogram that the policy was given.
            keep: Keep probability, in [0, 1].
            coin_epoch: The epoch whose coins decide; None: the current one.
        """
        return cls(np.full(histogram.bins, float(keep)), float(keep), coin_epoch=coin_epoch)

    def validate(self, histogram: LossHistogram) -> None:
        """Checks shapes, probabilities, weights and notes of the curve.

        Args:
            histogram: The histogram that the curve was made for.

        Raises:
            ValueError: One of them is invalid; the message names it.
        """
        self._check_shapes(histogram)
        keep, weight = self.keep_by_cell, self.weight_by_cell
        if not (np.all(keep >= 0) and np.all(keep <= 1)):
            raise ValueError(
                "KeepCurve.keep and .unseen must lie in [0, 1], "
                f"got values from {np.min(keep)} to {np.max(keep)}: they are probabilities"
            )
        if weight is not None and not (np.all(weight >= 0) and np.all(weight <= _LARGEST)):
            raise ValueError(
                "KeepCurve.weight and .unseen_weight must be finite in float32 and >= 0, "
                f"got values from {np.min(weight)} to {np.max(weight)}: they multiply losses"
            )
        if self.unbiased and not np.all(keep > 0):
            raise ValueError(
                "KeepCurve.unbiased needs keep probabilities above 0 in every bin: no weight makes "
                "up for samples that are never kept. Keep a few of them, or set unbiased=False"
            )
        if not 0 <= self.coin_offset < 1:
            raise ValueError(
                f"KeepCurve.coin_offset must lie in [0, 1), got {self.coin_offset}: "
                "take it modulo 1"
            )
        if self.coin_epoch is not None:
            integer("KeepCurve.coin_epoch", self.coin_epoch, 0, "the epoch whose coins decide")
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
                    f"(or for each stratum and bin, if the histogram has strata), got shape "
                    f"{np.shape(values)}: build it from histogram.centres"
                )
        for name, value in (("unseen", self.unseen), ("unseen_weight", self.unseen_weight)):
            if np.shape(value) not in ((), bins[:-1]):
                raise ValueError(
                    f"KeepCurve.{name} must be a number, or one for each stratum, got shape "
                    f"{np.shape(value)}: it concerns the samples without a loss"
                )

    @property
    def strata(self) -> int | None:
        """Number of strata; None if the curve has none."""
        return len(self.keep) if np.ndim(self.keep) == 2 else None

    @property
    def keep_by_cell(self) -> NDArray[np.float64]:
        """Keep probability of each cell, the unseen last (in each stratum): float64 (cells,)."""
        return _cells(self.keep, self.unseen)

    @property
    def weight_by_cell(self) -> NDArray[np.float64] | None:
        """Weight of each cell, in the same order: float64 (cells,); None if all weights are 1."""
        if self.weight is None and np.all(np.equal(self.unseen_weight, 1)):
            return None
        weight = np.ones(np.shape(self.keep)) if self.weight is None else self.weight
        return _cells(weight, self.unseen_weight)

    def with_cells(
        self, keep: NDArray[np.float64], weight: NDArray[np.float64] | None
    ) -> KeepCurve:
        """Returns a copy with other values by cell.

        Args:
            keep: float64 (cells,), in the order of `keep_by_cell`.
            weight: float64 (cells,), in the order of `weight_by_cell`; None: all 1.
        """
        kept, unseen = _split(keep, self.strata)
        if weight is None:
            return replace(self, keep=kept, unseen=unseen, weight=None, unseen_weight=1.0)
        weights, unseen_weight = _split(weight, self.strata)
        return replace(self, keep=kept, unseen=unseen, weight=weights, unseen_weight=unseen_weight)

    def for_histogram(self, histogram: LossHistogram) -> KeepCurve:
        """Returns the curve with the strata of the histogram, repeated if it has none."""
        if histogram.by_stratum is None or self.strata is not None:
            return self
        strata = len(histogram.by_stratum)
        weight = self.weight_by_cell
        curve = replace(self, keep=np.tile(self.keep, (strata, 1)))
        return curve.with_cells(
            np.tile(self.keep_by_cell, strata), None if weight is None else np.tile(weight, strata)
        )

    def mean_keep(self, histogram: LossHistogram) -> NDArray[np.float64]:
        """Returns the mean keep probability of each bin over all strata: float64 (bins,)."""
        if self.strata is None or histogram.by_stratum is None:
            return np.asarray(self.keep, np.float64)
        kept = (histogram.by_stratum[:, :-1] * self.keep).sum(axis=0)
        mean: NDArray[np.float64] = self.keep.mean(axis=0)  # where nobody is
        some = histogram.counts > 0
        mean[some] = kept[some] / histogram.counts[some]
        return mean

    def expected(self, histogram: LossHistogram) -> float:
        """Returns the expected number of kept samples; the same float on every CPU."""
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
