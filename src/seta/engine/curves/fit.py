"""Fits a keep curve to the number of samples of an epoch (see `steps`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.sums import dot

_TINY = 2.0**-1074  # the smallest number above 0


@dataclass(frozen=True, eq=False)
class Fit:
    """A keep curve fitted to a number of samples.

    Attributes:
        curve: Its expected count is that number.
        factor: What the probabilities were multiplied by, before the cut at 1; infinity where the
            whole window is trained.
        widened: Samples that have to come from outside the window.
    """

    curve: KeepCurve
    factor: float
    widened: int


def fit(curve: KeepCurve, histogram: LossHistogram, n: int) -> Fit:
    """Fits a curve so that it keeps n samples in expectation.

    Where the window (the bins with a probability above 0) holds more than n samples, all
    probabilities are multiplied by one factor, cut at 1. Where it holds fewer, the whole window is
    kept, and the shortfall comes from the nearest groups outside (bins, where the curve has no
    groups; the easier first at equal distance), the last of them in part.

    Weights of an unbiased curve follow, so that it stays so up to a common factor; others stay.

    Args:
        curve: Made for the histogram.
        histogram: Of the samples to choose from.
        n: 0 .. histogram.total.
    """
    keep = curve.keep_by_cell
    counts = histogram.cells
    window = int(counts[keep > 0].sum())
    if window > n:
        (fitted, factor), widened = filled(keep, counts, n), 0
    else:
        factor, widened = np.inf, n - window
        fitted = (keep > 0).astype(np.float64)
        _widen(fitted, counts, distances_of(curve), widened)
    weight = curve.weight_by_cell
    if weight is not None and curve.unbiased and factor > 0:
        weight = weight * min(factor, 1.0) * keep / fitted
    return Fit(curve.with_cells(fitted, weight), float(factor), widened)


def filled(
    keep: NDArray[np.float64], counts: NDArray[np.int64], n: float
) -> tuple[NDArray[np.float64], float]:
    """Solves sum(counts * min(1, f * keep)) = n for f.

    Exact enough for a draw: the cells that come out as 1 never hold more than n samples, and those
    above 0 stay above 0, whatever lies between the smallest and the largest.

    Args:
        keep: float64 (cells,), at least 0.
        counts: int64 (cells,), samples of each.
        n: Less than the samples with keep > 0.

    Returns:
        min(1, f * keep): float64 (cells,), and f, infinity where it is too large for a number.
    """
    inside = (keep > 0) & (counts > 0)
    values, which = np.unique(keep[inside], return_inverse=True)
    values = values[::-1]
    # Integers below 2**53, which floats hold.
    sizes = np.bincount(which, weights=counts[inside])[::-1]
    # With the j most probable kinds at 1, the others share what is left.
    certain = np.cumsum(sizes) - sizes
    mass = np.cumsum((sizes * values)[::-1])[::-1]
    shares = (n - certain) * values < mass
    shares[-1] = True
    first = int(np.argmax(shares))
    top, above = float(values[first]), float(values[first - 1]) if first else np.inf
    # Relative to the most probable kind that is not certain: no sum of these is out of range.
    with np.errstate(over="ignore"):
        relative = keep / top
        scale = (n - float(certain[first])) / dot(counts * (inside & (keep <= top)), relative)
        scale = max(scale, top / above)  # rounding may make it less, which no solution is
        fitted = np.clip(max(scale, _TINY) * relative, _TINY, 1.0)
    fitted[keep >= above] = 1.0
    fitted[keep == 0] = 0.0
    return fitted, scale / top


def distances_of(curve: KeepCurve) -> NDArray[np.int64]:
    """Returns how far each cell lies outside the window (of its stratum): int64 (cells,)."""
    if curve.strata is not None:
        rows = [replace(curve, keep=row, unseen=1.0) for row in curve.keep]
        return np.concatenate([distances_of(row) for row in rows])
    keep = np.asarray(curve.keep)
    inside = keep > 0
    far = 4 * len(keep) + 4
    distances = np.full(len(keep) + 1, far if inside.any() else 0, np.int64)
    if not inside.any():
        return distances
    if curve.groups is not None and curve.window is not None:
        group = np.repeat(np.arange(len(curve.groups)), np.diff(curve.groups.first_bin))
        below, above = curve.window[0] - group, group - curve.window[1] + 1
    else:
        at, places = np.arange(len(keep)), np.flatnonzero(inside)
        after = np.searchsorted(places, at)
        below = np.where(after < len(places), places[after.clip(max=len(places) - 1)] - at, far)
        above = np.where(after > 0, at - places[(after - 1).clip(min=0)], far)
    # 2 d for d steps below the window, 2 d + 1 for as many above: the easier first.
    distances[:-1] = np.minimum(
        np.where(below > 0, 2 * below, 2 * far), np.where(above > 0, 2 * above + 1, 2 * far)
    )
    return distances


def _widen(
    fitted: NDArray[np.float64],
    counts: NDArray[np.int64],
    distances: NDArray[np.int64],
    shortfall: int,
) -> None:
    """Raises the probabilities outside the window until they hold the shortfall, nearest first."""
    outside = np.flatnonzero((fitted == 0) & (counts > 0))
    steps, which = np.unique(distances[outside], return_inverse=True)
    sizes = np.bincount(which, weights=counts[outside], minlength=len(steps))
    before = np.cumsum(sizes) - sizes
    shares = np.clip((shortfall - before) / np.maximum(sizes, 1), 0.0, 1.0)
    fitted[outside] = shares[which]
