"""Suspects: samples whose losses stay above those of the others over all visits.

Most of them have a wrong label, or cannot be distinguished from another class. The score is
computed from what a tracked run keeps of each sample, so it needs no pass over the data:

    (visits x (mean - typical) + (loss - typical)) / (visits + 2) - spread / 4

- `typical` is the median of the samples' mean losses; with classes, that of the sample's class.
- The latest loss counts once more than the others, since early losses are high for all samples.
- One additional typical loss stands for losses that were not seen. So a sample with few visits
  needs a much higher loss to come first: after one visit, two thirds of the distance count.
- A loss that varies or falls belongs to a sample that is being learned.

The three weights were chosen on planted errors, with other seeds than those that `docs/suspects.md`
reports. Losses relative to their epoch, and ranks among samples with equally many visits, were
tried and did not help. Cost: some copies of the columns and a median; with classes a sort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LATEST, UNSEEN, SPREAD = 1.0, 1.0, 0.25
"""Additional weights of the latest and of a typical loss; factor of the spread."""

FEW = 10
"""Number of samples of all classes that are added to each class, so that small ones are safe."""


def suspicion(
    columns: Mapping[str, NDArray[Any]], classes: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.float32]:
    """Returns how far the losses of each sample stay above typical ones, in the unit of the losses.

    It scales with the losses, and does not change if a constant is added to all of them.

    Args:
        columns: `visits`, `mean`, `spread` and `loss`, as in a `SampleTable`.
        classes: Integers (rows,); None: samples are compared with all others.

    Returns:
        float32 (rows,): 0 = typical, above it worse; NaN = no loss yet.
    """
    seen = np.flatnonzero(columns["visits"] > 0)
    visits, mean, loss = (
        columns[name][seen].astype(np.float64) for name in ("visits", "mean", "loss")
    )
    typical = _typical(mean, None if classes is None else classes[seen])
    above = visits * (mean - typical) + LATEST * (loss - typical)
    above /= visits + LATEST + UNSEEN
    above -= SPREAD * np.nan_to_num(columns["spread"][seen])  # of a single loss there is none
    found = np.full(len(columns["visits"]), np.nan, np.float32)
    with np.errstate(over="ignore"):  # of losses as far apart as float32 allows
        found[seen] = above
    return found


def _typical(
    means: NDArray[np.float64], classes: NDArray[np.integer[Any]] | None
) -> NDArray[np.float64] | np.float64:
    """Returns the median of all; with classes that of each sample's class: float64 (rows,)."""
    if not len(means):
        return np.float64(0)
    overall = np.float64(np.median(means))
    if classes is None:
        return overall
    codes = _codes(classes)
    sizes = np.bincount(codes)
    order = np.argsort(means)
    order = order[np.argsort(codes[order], kind="stable")]  # by class, and by mean within it
    first = np.cumsum(sizes) - sizes
    low, high = (means[order[first + middle]] for middle in ((sizes - 1) // 2, sizes // 2))
    own = (sizes * (low / 2 + high / 2) + FEW * overall) / (sizes + FEW)
    typical: NDArray[np.float64] = own[codes]
    return typical


def _codes(classes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Returns the classes as integers from 0 on: uint16 if they fit, which are sorted fast."""
    least = int(classes.min())
    if int(classes.max()) - least > 0xFFFF:
        codes: NDArray[np.integer[Any]] = np.unique(classes, return_inverse=True)[1]
        return codes
    return classes.astype(np.uint16) - np.uint16(least % 2**16)  # both wrap around
