"""Difficulty groups: optimal 1-D k-means on a loss histogram.

Dynamic programming over the bins gives the global optimum (Wang & Song, "Ckmeans.1d.dp: Optimal
k-means Clustering in One Dimension by Dynamic Programming", The R Journal 3/2, 2011), each layer by
divide and conquer, since the best split moves one way only. Where there are more bins than the
optimum can tell apart, neighbours are merged first, finest where the losses are dense, and Lloyd's
iteration moves the borders of the optimum to the exact bins afterwards.

Cost: some milliseconds, whatever the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.histogram import LossHistogram

_MERGED_BINS = 512
_MERGED_BINS_PER_GROUP = 64
_CAPPING_STEPS = 20
_LLOYD_STEPS = 100


@dataclass(frozen=True, eq=False)
class DifficultyGroups:
    """Groups of neighbouring loss bins, in ascending order of loss; group 0 is the easiest.

    Attributes:
        first_bin: intp (g + 1,); group j holds the bins first_bin[j] to first_bin[j + 1] - 1.
        sizes: int64 (g,), number of samples in each group.
        centres: float64 (g,), mean loss of each group.
        bounds: float64 (g + 1,); group j holds the losses in [bounds[j], bounds[j + 1]).
    """

    first_bin: NDArray[np.intp]
    sizes: NDArray[np.int64]
    centres: NDArray[np.float64]
    bounds: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.sizes)


def difficulty_groups(histogram: LossHistogram, groups: int) -> DifficultyGroups:
    """Splits losses into difficulty groups by 1-D k-means, with the optimal sum of squares.

    Args:
        histogram: Histogram of the losses; samples without a loss are ignored.
        groups: Number of groups, >= 1. With fewer distinct losses, fewer groups are returned;
            without losses, none.

    Raises:
        ValueError: `groups` is less than 1.
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}: the number of groups")
    occupied = np.flatnonzero(histogram.counts)
    # Taken from the median, so that the squares do not swallow a narrow spread.
    origin = histogram.quantile(0.5) if len(occupied) else 0.0
    points = _Points(histogram.centres[occupied], histogram.counts[occupied], origin)
    groups = min(groups, len(occupied))
    if groups == 0:
        empty = np.zeros(0)
        return DifficultyGroups(np.zeros(1, np.intp), empty.astype(np.int64), empty, np.zeros(1))
    cuts = _merge(points, max(_MERGED_BINS, _MERGED_BINS_PER_GROUP * groups))
    cuts = _lloyd(points, cuts[_optimal_splits(points.merged(cuts), groups)])
    first_bin = np.concatenate([[0], occupied[cuts[1:-1]], [histogram.bins]]).astype(np.intp)
    sizes = np.add.reduceat(histogram.counts, first_bin[:-1])
    sums = np.add.reduceat(histogram.centres * histogram.counts, first_bin[:-1])
    bounds = histogram.edges[first_bin]
    centres = np.clip(sums / sizes, bounds[:-1], bounds[1:])
    return DifficultyGroups(first_bin, sizes, centres, bounds)


class _Points:
    """Weighted points in ascending order, with running sums for the cost of any run of them."""

    def __init__(
        self, values: NDArray[np.float64], counts: NDArray[np.int64], origin: float
    ) -> None:
        self.values = values - origin
        at = int(np.searchsorted(self.values, 0.0))
        self.count = _running(counts.astype(np.float64))
        self.sum = _running(self.values * counts, at)
        self.square = _running(self.values**2 * counts, at)

    def __len__(self) -> int:
        return len(self.count) - 1

    def merged(self, cuts: NDArray[np.intp]) -> _Points:
        """Returns the points between neighbouring cuts as one, its spread kept."""
        result = object.__new__(_Points)
        result.count, result.sum, result.square = (
            self.count[cuts],
            self.sum[cuts],
            self.square[cuts],
        )
        return result

    def totals(self, cuts: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns count and sum between neighbouring cuts."""
        return np.diff(self.count[cuts]), np.diff(self.sum[cuts])

    def cost(self, start: NDArray[np.intp], stop: NDArray[np.intp]) -> NDArray[np.float64]:
        """Returns the squared distances to the mean of the points start .. stop - 1, summed."""
        count = self.count[stop] - self.count[start]
        total = self.sum[stop] - self.sum[start]
        square = self.square[stop] - self.square[start]
        return np.maximum(square - total * total / np.maximum(count, 1.0), 0.0)


def _running(values: NDArray[np.float64], at: int = 0) -> NDArray[np.float64]:
    """Returns the sums from point `at` to each border, negative before it: float64 (n + 1,).

    From the middle outwards, so that one huge loss does not swallow the sums of all others. One
    addition after the other: rounded alike on every CPU.
    """
    before, after = np.cumsum(values[:at][::-1])[::-1], np.cumsum(values[at:])
    return np.concatenate([-before, [0.0], after])


def _merge(points: _Points, most: int) -> NDArray[np.intp]:
    """Returns cuts (m + 1,) of the points into at most some `most` runs, all points if few.

    Moving a border by a width d costs about density * d**2, so runs of equal sqrt(count * width)
    bound what the merging can cost at any border. A gap that deserves more than one cut gets one,
    and leaves the others to the rest.
    """
    if len(points) <= most:
        return np.arange(len(points) + 1)
    counts = np.diff(points.count)
    steps = np.sqrt(np.minimum(counts[:-1], counts[1:]) * np.diff(points.values))
    cap = np.inf
    for _ in range(_CAPPING_STEPS):
        before, cap = cap, float(np.cumsum(steps)[-1]) / most
        if cap > 0.99 * before:
            break
        np.minimum(steps, cap, out=steps)
    measure = _running(steps)
    even = np.searchsorted(measure, np.arange(0.5, most) * (measure[-1] / most))
    wide = np.flatnonzero(steps > 0.9 * cap) + 1
    return np.unique(np.concatenate([[0], even, wide, [len(points)]]))


def _optimal_splits(points: _Points, groups: int) -> NDArray[np.intp]:
    """Returns the splits (groups + 1,) of least cost: group j is the points s[j] .. s[j+1] - 1."""
    n = len(points)
    groups = min(groups, n)
    stops = np.arange(n + 1)
    best = points.cost(np.zeros_like(stops), stops)
    choices = []
    for layer in range(1, groups):
        best, choice = _layer(points, best, layer)
        choices.append(choice)
    splits = [n]
    for choice in reversed(choices):
        splits.append(int(choice[splits[-1]]))
    return np.array([0, *reversed(splits)], dtype=np.intp)


def _layer(
    points: _Points, before: NDArray[np.float64], layer: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Adds one group: for each stop i, the least before[j] + cost(j, i) over layer <= j < i.

    The best j never moves left as i moves right. So the middle stop is settled first and bounds the
    search for both halves, whose middles come next, all at once.
    """
    n = len(points)
    best = np.full(n + 1, np.inf)
    choice = np.zeros(n + 1, np.intp)
    first, last = np.array([layer + 1]), np.array([n])
    low, high = np.array([layer]), np.array([n - 1])
    while len(first):
        middle = (first + last) // 2
        stop = np.minimum(high, middle - 1)
        lengths = stop - low + 1
        starts = np.cumsum(lengths) - lengths
        j = np.arange(lengths.sum()) + np.repeat(low - starts, lengths)
        costs = before[j] + points.cost(j, np.repeat(middle, lengths))
        least = np.minimum.reduceat(costs, starts)
        hits = np.flatnonzero(costs == np.repeat(least, lengths))
        found = j[hits[np.searchsorted(hits, starts)]]
        best[middle], choice[middle] = least, found
        first, last = np.concatenate([first, middle + 1]), np.concatenate([middle - 1, last])
        low, high = np.concatenate([low, found]), np.concatenate([found, high])
        todo = first <= last
        first, last, low, high = first[todo], last[todo], low[todo], high[todo]
    return best, choice


def _lloyd(points: _Points, cuts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Moves each border to the middle of its two centres until none moves; the cost only falls."""
    for _ in range(_LLOYD_STEPS):
        counts, sums = points.totals(cuts)
        centres = sums / counts
        inner = np.searchsorted(points.values, (centres[:-1] + centres[1:]) / 2)
        moved = np.concatenate([[0], inner, [len(points)]])
        if np.array_equal(moved, cuts) or np.any(np.diff(moved) <= 0):
            break
        cuts = moved
    return cuts
