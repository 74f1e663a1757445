"""Number, mean and standard deviation of each sample's losses, for tracked runs.

They are columns of the loss table and are folded like those of a policy, so that they are exchanged
between ranks and saved in states like losses. Losses are those of training; with a policy that sees
batches (RePB, BLS), what it makes of them. If a sample occurs twice in one record, the last loss
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

VISITS, MEAN, SQUARES, LATEST = "track.visits", "track.mean", "track.squares", "track.latest"
"""The dot keeps them apart from the columns of policies, which are Python names."""


BEFORE = {VISITS: 0.0, MEAN: 0.0, SQUARES: 0.0, LATEST: np.nan}
"""What they hold of a sample without losses."""

_ONE, _MOST = np.float32(1), np.float64(np.finfo(np.float32).max)


def names(*, scored: bool) -> tuple[str, ...]:
    """Returns the columns of a tracked run: 12 bytes a sample, 16 where a score hides the loss."""
    return (VISITS, MEAN, SQUARES, *([LATEST] if scored else []))


def fold(
    old: Mapping[str, NDArray[np.float32]], losses: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Returns the columns with one more loss each (Welford's sums).

    Args:
        old: float32 (B,) by name.
        losses: float32 (B,), finite.
    """
    visits = old[VISITS] + _ONE
    mean, exact = old[MEAN].astype(np.float64), losses.astype(np.float64)
    squares = exact - mean
    mean += squares / visits
    squares *= exact - mean
    squares += old[SQUARES]
    np.minimum(squares, _MOST, out=squares)
    found = {
        VISITS: visits,
        MEAN: mean.astype(np.float32),
        SQUARES: squares.astype(np.float32),
    }
    return {**found, LATEST: losses} if LATEST in old else found


def visits_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Returns how many losses each sample had: int64 (n,)."""
    visits: NDArray[np.int64] = columns[VISITS].astype(np.int64)
    return visits


def mean_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns the mean of each sample's losses: float32 (n,), NaN where there are none."""
    return np.where(columns[VISITS] > 0, columns[MEAN], np.float32(np.nan))


def spread_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns the standard deviation of each sample's losses: float32 (n,), NaN before two."""
    more = columns[VISITS] > 1
    variance = np.full(len(more), np.nan, np.float32)
    np.divide(np.maximum(columns[SQUARES], 0), columns[VISITS] - 1, out=variance, where=more)
    found: NDArray[np.float32] = np.sqrt(variance)
    return found
