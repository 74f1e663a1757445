"""What is kept of each sample's losses beside the latest one: how many, their mean, their spread.

Columns of the loss table, where a run is tracked; folded as a policy's own, so that they go where
losses go: through exchanges of ranks, into states, to other numbers of ranks. Losses are those of
training; of a policy that sees batches (RePB, BLS), what it makes of them. Of a sample that occurs
twice in what is recorded at once, the last one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

VISITS, MEAN, SQUARES, LATEST = "track.visits", "track.mean", "track.squares", "track.latest"
"""The dot keeps them apart from the columns of policies, which are Python names."""


def names(*, scored: bool) -> tuple[str, ...]:
    """Returns the columns of a tracked run: 12 bytes a sample, 16 where a score hides the loss."""
    return (VISITS, MEAN, SQUARES, *([LATEST] if scored else []))


def fold(
    old: Mapping[str, NDArray[np.float32]], losses: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Returns the columns with one more loss each (Welford's sums).

    Args:
        old: float32 (B,) by name, NaN where there were no losses yet.
        losses: float32 (B,), finite.
    """
    visits = np.nan_to_num(old[VISITS]) + np.float32(1)
    before = np.where(visits == 1, losses, old[MEAN])
    step = losses.astype(np.float64) - before
    mean = (before + step / visits).astype(np.float32)
    squares = (np.nan_to_num(old[SQUARES]) + step * (losses - mean)).astype(np.float32)
    found = {VISITS: visits, MEAN: mean, SQUARES: squares}
    return {**found, LATEST: losses} if LATEST in old else found


def visits_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Returns how many losses each sample had: int64 (n,)."""
    visits: NDArray[np.int64] = np.nan_to_num(columns[VISITS]).astype(np.int64)
    return visits


def spread_of(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns the standard deviation of each sample's losses: float32 (n,), NaN before two."""
    visits = columns[VISITS]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(columns[SQUARES], 0) / (visits - 1)
        found: NDArray[np.float32] = np.sqrt(np.where(visits > 1, variance, np.nan))
    return found.astype(np.float32)
