"""The loss histogram: the only view of the losses that a policy gets.

A bin is a range of neighbouring float32 values: `(ordered bits - smallest) >> shift`, where the
ordered bits of a float are its bit pattern made monotone. This resolves losses of 2.303 +- 0.01 as
well as losses from 1e-6 to 20, and needs no parameter. Histograms of parts of a dataset that were
made with one `Binning` add up to the histogram of the whole.

With strata (a class per sample), losses are counted for each stratum. A *cell* is then a bin of a
stratum, else a bin; the last cell (of each stratum) holds the unseen samples. Drawing and fitting
work on cells and need not know strata.

Strata share the bins, so a few far smaller losses, such as one of exactly 0, would leave few bins
to all others. So bins by stratum begin at 2**-24 of the largest loss where none is negative by
more than that; what is lower counts in the first. A loss above 64, more than the log of any number
of classes, counts as 64 in that: one of 1e12 would leave all others one bin.

Cost: one pass for the range, one for the counts. There are at most 2**17 bins for any number of
samples. Strata share them; each has 2**8 at least, so that from 2**9 strata on each adds 2 kB, and
as much again while losses are counted, beside 8 bytes per sample at most.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import parallel
from seta.engine.curves.sums import dot

MAX_BINS = 1 << 17
_LEAST_BINS = 1 << 8  # of each stratum
_FLOOR, _LARGE = 2.0**-24, 64.0  # of the largest loss, or of this: where the bins of strata begin
_FLOORED_BINS, _FLOORED_CELLS = 1 << 10, 1 << 20  # of each stratum there, as far as so many last
_SIGN = np.uint32(0x8000_0000)
_NAN_SHIFT = 22  # bins of so many bits do not hold a NaN beside the largest float
LEAST_KEY, LARGEST_KEY = 0x0080_0000, 0xFF7F_FFFF  # ordered bits of the finite float32


def ordered_bits(losses: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Maps float32 to uint32 so that the order stays: the bits, negatives inverted.

    Args:
        losses: float32 (N,), contiguous.

    Returns:
        uint32 (N,); equal for 0.0 and -0.0; NaNs land below every finite float or above it.
    """
    bits = np.add(losses, np.float32(0)).view(np.uint32)  # -0.0 + 0.0 is 0.0
    flip = np.right_shift(bits.view(np.int32), 31).view(np.uint32)
    np.bitwise_or(flip, _SIGN, out=flip)
    return np.bitwise_xor(flip, bits, out=flip)


def _value(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inverse of `ordered_bits`, clipped to the largest finite float."""
    key = np.minimum(keys, LARGEST_KEY).astype(np.uint32)
    bits = np.where(key >= _SIGN, key ^ _SIGN, ~key)
    return bits.view(np.float32).astype(np.float64)


def _fixed(values: NDArray[Any]) -> NDArray[Any]:
    """Returns a view that cannot be written to: a policy is handed what the run goes on with."""
    view = values.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Binning:
    """The bins of a histogram: ranges of neighbouring float32 values.

    Methods and properties: `over` makes one for a range of losses; `bin_of`, `cells_of`, `edges`,
    `centres`.

    Attributes:
        smallest: Ordered bits (see `ordered_bits`) of the lower bound of bin 0.
        shift: A bin holds `2**shift` neighbouring float32 values.
        size: Number of bins, 1 to 2**17.
        open_below: Whether bin 0 also holds what lies below it.
    """

    smallest: int
    shift: int
    size: int
    open_below: bool = False

    @classmethod
    def over(cls, low: float, high: float, *, bins: int = MAX_BINS) -> Binning:
        """Returns the finest binning of the losses from `low` to `high`.

        Args:
            low: The smallest loss, finite.
            high: The largest loss, finite.
            bins: Maximum number of bins, a power of 2.

        Raises:
            ValueError: A bound is not finite, or `low` is above `high`.
        """
        with np.errstate(over="ignore"):
            ends = np.array([low, high], np.float32)
        if not (np.isfinite(ends).all() and low <= high):
            raise ValueError(
                f"a binning needs finite bounds with low <= high, got low={low}, high={high}: "
                "leave non-finite losses out"
            )
        smallest, largest = (int(key) for key in ordered_bits(ends))
        shift = max(0, (largest - smallest).bit_length() - bins.bit_length() + 1)
        return cls(smallest, shift, ((largest - smallest) >> shift) + 1)

    @classmethod
    def of_strata(cls, low: float, high: float, kinds: int) -> Binning:
        """Returns the binning for the losses of strata from `low` to `high`.

        Args:
            low: The smallest loss.
            high: The largest loss.
            kinds: Number of strata.
        """
        floor, bins = min(high, _LARGE) * _FLOOR, bins_for(kinds)
        if not -floor < low < floor:
            return cls.over(low, high, bins=bins)
        bins = max(bins, min(_FLOORED_BINS, bins_for(kinds, _FLOORED_CELLS)))
        return replace(cls.over(floor, high, bins=bins), open_below=True)

    def bin_of(self, losses: ArrayLike) -> NDArray[np.intp]:
        """Returns the bin of each loss: intp (B,); `size` for NaN and losses outside the bins."""
        values = np.ascontiguousarray(losses, dtype=np.float32)
        return self._bins(values.reshape(-1)).astype(np.intp).reshape(values.shape)

    def cells_of(
        self, losses: NDArray[np.float32], strata: NDArray[np.unsignedinteger[Any]] | None
    ) -> NDArray[np.intp]:
        """Returns the cell of each loss: intp (B,).

        Args:
            losses: float32 (B,), contiguous.
            strata: Unsigned integers (B,); None: no strata.
        """
        cells = self._bins(losses).astype(np.intp)
        if strata is not None:
            cells += strata.astype(np.intp) * (self.size + 1)
        return cells

    def nearest(self, losses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns losses with those outside the bins moved to the nearest one; NaN stays."""
        last = self.smallest + (self.size << self.shift) - 1
        low, high = _value(np.array([self.smallest, last], np.int64)).astype(np.float32)
        return np.clip(losses, low, high)

    def _bins(
        self, losses: NDArray[np.float32], *, nonnegative: bool = False
    ) -> NDArray[np.uint32]:
        # Where no loss is negative, setting the sign bit does what ordered_bits does.
        key = losses.view(np.uint32) | _SIGN if nonnegative else ordered_bits(losses)
        if self.open_below:
            np.maximum(key, np.uint32(self.smallest), out=key, where=key >= LEAST_KEY)
        # A NaN of either sign wraps or stays above every bin, so that it is clipped to `size`;
        # bins wider than an octave would reach it.
        np.subtract(key, np.uint32(self.smallest), out=key)
        np.right_shift(key, np.uint32(self.shift), out=key)
        if self.shift > _NAN_SHIFT:
            key[np.isnan(losses)] = self.size
        return np.minimum(key, np.uint32(self.size), out=key)

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Bounds of the bins: float64 (size + 1,); bin b holds losses in [edges[b], edges[b+1])."""
        keys = self.smallest + (np.arange(self.size + 1, dtype=np.int64) << self.shift)
        return _fixed(_value(keys))

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """The loss that stands for each bin: float64 (size,)."""
        if self.shift == 0:
            return self.edges[:-1]
        half = 1 << (self.shift - 1)
        keys = self.smallest + (np.arange(self.size, dtype=np.int64) << self.shift)
        return _fixed(_value(keys + half))


@dataclass(frozen=True, eq=False)
class LossHistogram:
    """Histogram of the latest losses of all samples; the argument of a policy.

    - To make one: `from_losses`, `merge`.
    - Sizes: `bins`, `seen`, `total`.
    - Losses: `centres`, `edges`, `bin_of`, `mean`, `quantile`, `cells`.

    Attributes:
        binning: The bins.
        counts: Number of samples in each bin, lowest losses first: int64 (bins,).
        unseen: Number of samples without a loss.
        by_stratum: Counts of each stratum, its unseen samples last: int64 (strata, bins + 1); None
            without strata.
        columns: Histograms of a policy's columns, by name, for the columns that it names in
            `counted`; each has its own bins and no strata.
        notes: The `KeepCurve.notes` that the policy returned in the epoch before.

    Examples:
        >>> losses = np.array([0.5, 2.0, 0.5, np.nan], np.float32)
        >>> histogram = LossHistogram.from_losses(losses)
        >>> histogram.seen, histogram.unseen, round(histogram.mean(), 3)
        (3, 1, 1.0)
    """

    binning: Binning
    counts: NDArray[np.int64]
    unseen: int
    by_stratum: NDArray[np.int64] | None = None
    columns: Mapping[str, LossHistogram] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fixes the counts."""
        object.__setattr__(self, "counts", _fixed(self.counts))
        if self.by_stratum is not None:
            object.__setattr__(self, "by_stratum", _fixed(self.by_stratum))

    @classmethod
    def from_losses(
        cls,
        losses: NDArray[np.float32],
        *,
        binning: Binning | None = None,
        threads: int | None = None,
        strata: NDArray[np.unsignedinteger[Any]] | None = None,
    ) -> LossHistogram:
        """Returns the histogram of an array of losses.

        Args:
            losses: float32 (N,), finite, or NaN = unseen.
            binning: The bins, for histograms that are to be merged. None: the finest bins for these
                losses.
            threads: Number of threads. None: all cores.
            strata: Class of each sample, unsigned integers (N,) from 0 on. None: no strata.

        Raises:
            ValueError: A loss is infinite or outside the given binning.
        """
        losses = np.ascontiguousarray(losses, dtype=np.float32).reshape(-1)
        threads = parallel.available_threads() if threads is None else threads
        bounds = loss_range(losses, threads=threads)
        kinds = 1 if strata is None else int(strata.max(initial=0)) + 1
        if binning is None:
            low, high = bounds or (0.0, 0.0)
            binning = (
                Binning.over(low, high) if strata is None else Binning.of_strata(low, high, kinds)
            )
        elif bounds is not None and (
            bool((binning.bin_of(bounds) == binning.size).any())
            or (binning.open_below and bounds[0] < 0 and bounds[0] <= -binning.edges[0])
        ):
            raise ValueError(
                f"losses from {bounds[0]} to {bounds[1]} do not fit the given binning "
                f"from {binning.edges[0]} to {binning.edges[-1]}: "
                "agree on one Binning.over(low, high) of all parts first"
            )
        counts = _count(losses, binning, threads, strata, kinds)
        total = counts.sum(axis=0)
        return cls(binning, total[:-1], int(total[-1]), None if strata is None else counts)

    def merge(self, other: LossHistogram) -> LossHistogram:
        """Returns the histogram of the samples of both.

        Args:
            other: A histogram with the same binning, number of strata and columns.

        Raises:
            ValueError: They differ in one of these.
        """
        if self.binning != other.binning:
            raise ValueError(
                f"histograms of different bins do not add up: {self.binning} and {other.binning}; "
                "agree on one Binning.over(low, high) of all parts first"
            )
        mine, theirs = self.by_stratum, other.by_stratum
        kinds = [0 if part is None else len(part) for part in (mine, theirs)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"histograms of different strata do not add up: {kinds[0]} and {kinds[1]} of them; "
                "count both with the strata of the whole data set"
            )
        if self.columns.keys() != other.columns.keys():
            raise ValueError(
                f"histograms of different columns do not add up: {sorted(self.columns)} and "
                f"{sorted(other.columns)}; count the same ones in both"
            )
        both = None if mine is None or theirs is None else mine + theirs
        columns = {name: part.merge(other.columns[name]) for name, part in self.columns.items()}
        return LossHistogram(
            self.binning, self.counts + other.counts, self.unseen + other.unseen, both, columns
        )

    @property
    def bins(self) -> int:
        """Number of bins."""
        return self.binning.size

    @cached_property
    def seen(self) -> int:
        """Number of samples with a loss."""
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        """Number of samples."""
        return self.seen + self.unseen

    @property
    def centres(self) -> NDArray[np.float64]:
        """The loss that stands for each bin: float64 (bins,)."""
        return self.binning.centres

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bounds of the bins: float64 (bins + 1,)."""
        return self.binning.edges

    def bin_of(self, losses: ArrayLike) -> NDArray[np.intp]:
        """Returns the bin of each loss: intp (B,); `bins` for NaN."""
        return self.binning.bin_of(losses)

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """Counts of each cell: int64 (bins + 1,), or (strata * (bins + 1),)."""
        if self.by_stratum is not None:
            return self.by_stratum.reshape(-1)
        return _fixed(np.append(self.counts, self.unseen))

    def mean(self) -> float:
        """Returns the mean loss, computed from bin centres; NaN without losses."""
        return self._mean

    @cached_property
    def _mean(self) -> float:
        # Asked for by the policy and by the epoch's row.
        return dot(self.counts, self.centres) / self.seen if self.seen else float("nan")

    def quantile(self, q: float) -> float:
        """Returns the smallest bin centre with at least the share `q` of the losses at or below it.

        NaN without losses.

        Args:
            q: Quantile, in [0, 1].

        Raises:
            ValueError: `q` is outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must lie in [0, 1], got {q}: 0.5 for the median")
        if not self.seen:
            return float("nan")
        shares = np.cumsum(self.counts) / self.seen
        return float(self.centres[np.searchsorted(shares, max(q, 1 / self.seen))])


def loss_range(
    losses: NDArray[np.float32], *, threads: int | None = None
) -> tuple[float, float] | None:
    """Returns the smallest and the largest loss; None if all are unseen (NaN).

    Raises:
        ValueError: A loss is infinite.
    """
    threads = parallel.available_threads() if threads is None else threads

    def ends(span: range) -> tuple[np.float32, np.float32]:
        parts = [losses[block] for block in parallel.blocks(span)]
        pairs = [(np.fmin.reduce(part), np.fmax.reduce(part)) for part in parts]
        return np.fmin.reduce([p[0] for p in pairs]), np.fmax.reduce([p[1] for p in pairs])

    if not losses.size:
        return None
    lows, highs = zip(
        *parallel.run(ends, parallel.spans(losses.size, threads), threads), strict=True
    )
    low, high = float(np.fmin.reduce(lows)), float(np.fmax.reduce(highs))
    if np.isnan(low):
        return None
    if np.isinf(low) or np.isinf(high):
        raise ValueError(
            f"losses must be finite or NaN (= unseen), got a range from {low} to {high}: "
            "leave non-finite losses out, as Pruner.record does"
        )
    return low, high


def histograms_of(
    columns: Mapping[str, NDArray[np.float32]], threads: int
) -> dict[str, LossHistogram]:
    """Returns the histogram of each column, with bins of its own."""
    return {
        name: LossHistogram.from_losses(column, threads=threads) for name, column in columns.items()
    }


def codes_of(
    losses: NDArray[np.float32],
    codes: NDArray[Any],
    binning: Binning,
    threads: int,
    strata: NDArray[np.unsignedinteger[Any]] | None = None,
) -> NDArray[Any]:
    """Returns what is said of the cells for each sample: (N + 1,), the last as of one unseen.

    Args:
        losses: float32 (N,), NaN = unseen; one outside the bins counts as in the nearest.
        codes: (cells,).
        binning: The cells'.
        threads: Threads to use.
        strata: Unsigned integers (N,), of cells that have strata; None: they have none.
    """
    result = np.empty(losses.size + 1, codes.dtype)
    result[-1] = codes[binning.size]

    def look_up(span: range) -> None:
        for block in parallel.blocks(span):
            inside = binning.nearest(losses[block])
            cells = binning.cells_of(inside, None if strata is None else strata[block])
            result[block] = codes.take(cells, mode="clip")

    parallel.run(look_up, parallel.spans(losses.size, threads), threads)
    return result


def bins_for(strata: int, bins: int = MAX_BINS) -> int:
    """Returns how many bins each of so many strata gets at most, of all bins together."""
    return max(_LEAST_BINS, 1 << max(0, (bins // strata).bit_length() - 1))


def _count(
    losses: NDArray[np.float32],
    binning: Binning,
    threads: int,
    strata: NDArray[np.unsignedinteger[Any]] | None,
    kinds: int,
) -> NDArray[np.int64]:
    """Counts blockwise: int64 (kinds, size + 1), the unseen last."""
    nonnegative = binning.smallest >= int(_SIGN)
    total, adding = np.zeros(kinds * (binning.size + 1), np.int64), threading.Lock()
    # Each thread has counts of its own, which of few samples would take longer than the samples.
    threads = min(threads, 1 + losses.size // total.size)

    def count(span: range) -> None:
        counts = np.zeros(kinds * (binning.size + 1), np.int64)
        for block in parallel.blocks(span):
            if strata is None:
                cells = binning._bins(losses[block], nonnegative=nonnegative).astype(np.intp)
            else:
                cells = binning.cells_of(losses[block], strata[block])
            np.add.at(counts, cells, 1)
        with adding:
            np.add(total, counts, out=total)

    parallel.run(count, parallel.spans(losses.size, threads), threads)
    return total.reshape(kinds, -1)
