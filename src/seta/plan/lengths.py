"""How many samples each epoch of a planned run trains: exact under a budget, else an estimate.

The pruner's own arithmetic answers (`engine.steps`). Without a budget the lengths are an outcome of
training; here the real policy is asked for its curve, epoch by epoch, on made-up losses (a gamma
distribution of shape 2, the same in every class), and its expected counts are scaled to the
dataset. Columns that it wants counted are as a first loss makes them; whether it weights losses is
asked with eight. Costs some milliseconds per epoch then.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram, loss_range
from seta.engine.curves.policy import (
    KeepsScore,
    Policy,
    SeesBatch,
    counted_columns,
    curve_of,
    in_batch,
    is_stratified,
)
from seta.engine.steps import Steps
from seta.engine.table.columns import LossColumns

__all__ = [
    "SYNTHETIC",
    "alike",
    "expected_shares",
    "gamma_losses",
    "is_weighted",
    "planned_lengths",
]

SYNTHETIC = 1_000_000
"""Made-up losses that the policy is asked about."""

_BINS = 4096
_BATCH = 128
_CLASSES = 8

Losses = NDArray[np.float32]


def gamma_losses(n: int) -> Losses:
    """Returns made-up losses: float32 (n,), gamma of shape 2, always the same."""
    losses = np.empty(n, np.float32)
    np.random.default_rng(0).standard_gamma(2.0, dtype=np.float32, out=losses)
    return losses


def alike(n: int, classes: int) -> NDArray[np.uint32]:
    """Returns made-up classes: uint32 (n,), in turns, so that none differs from another."""
    return np.arange(n, dtype=np.uint32) % np.uint32(classes)


def planned_lengths(sizes: Steps, epochs: int, policy: Policy, budget: float | None) -> list[int]:
    """Returns the samples that each epoch chooses.

    Args:
        sizes: Of the run.
        epochs: Its length.
        policy: Chooses, where there is no budget.
        budget: Share of full training's sample visits; None: as the policy says.

    Raises:
        ValueError: The budget leaves an epoch without a batch.
    """
    if budget is not None:
        return sizes.lengths(budget, epochs)
    return [sizes.nearest(share * sizes.n) for share in expected_shares(policy, epochs)]


def expected_shares(policy: Policy, epochs: int, synthetic: int = SYNTHETIC) -> list[float]:
    """Returns the expected share of the samples that a policy keeps in each epoch of a run.

    The first epoch knows no losses. Later ones know those of the samples that have been trained;
    the rest stays unseen, and is kept with the curve's probability for the unseen.
    """
    everything = _coarse_histogram(policy, _recorded(policy, gamma_losses(synthetic)))
    unseen, shares = 1.0, []
    for epoch in range(epochs):
        histogram = _partly_seen(everything, unseen)
        curve: KeepCurve = curve_of(policy, histogram, epoch, epochs)
        shares.append(min(1.0, curve.expected(histogram) / histogram.total))
        unseen *= 1 - float(np.mean(curve.unseen))
    return shares


def is_weighted(policy: Policy, epochs: int) -> bool:
    """Returns whether a policy weights losses, in the first epoch or in the middle of a run."""
    histogram = _coarse_histogram(policy, gamma_losses(10_000), looks=8)
    curves = (curve_of(policy, histogram, epoch, epochs) for epoch in {0, epochs // 2})
    return any(curve.weight_by_cell is not None for curve in curves)


def _recorded(policy: Policy, losses: Losses) -> Losses:
    """Returns what the policy makes of the losses, as batches."""
    if not isinstance(policy, SeesBatch):
        return losses
    batches = np.split(losses, range(_BATCH, len(losses), _BATCH))
    return np.concatenate([in_batch(policy, batch) for batch in batches])


def _coarse_histogram(policy: Policy, losses: Losses, looks: int = 1) -> LossHistogram:
    """Returns a histogram of some thousand bins: enough for an estimate, and quickly clustered.

    Args:
        policy: May want columns counted.
        losses: float32 (n,).
        looks: How often they are recorded, in another order each time, for these columns.
    """
    histogram = _coarse(losses, alike(len(losses), _CLASSES) if is_stratified(policy) else None)
    if not isinstance(policy, KeepsScore) or not counted_columns(policy):
        return histogram
    columns = LossColumns(len(losses), looks, losses, scored=policy)
    for look in range(1, looks):
        columns.record(np.random.default_rng(look).permutation(len(losses)), losses, look)
    wanted = columns.to_count()
    return replace(histogram, columns={name: _coarse(wanted[name]) for name in wanted})


def _coarse(losses: Losses, classes: NDArray[np.uint32] | None = None) -> LossHistogram:
    fine = Binning.over(*(loss_range(losses) or (0.0, 0.0)))
    shift = max(0, fine.size.bit_length() - _BINS.bit_length())
    coarse = Binning(fine.smallest, fine.shift + shift, ((fine.size - 1) >> shift) + 1)
    return LossHistogram.from_losses(losses, binning=coarse, strata=classes)


def _partly_seen(histogram: LossHistogram, unseen: float) -> LossHistogram:
    """Returns a histogram of as many samples, a share of them unseen, the same in every bin."""
    columns = {name: _partly_seen(part, unseen) for name, part in histogram.columns.items()}
    if unseen == 1:  # nothing is known: a policy may not even learn the range
        nothing = np.full(histogram.total, np.nan, np.float32)
        classes = histogram.by_stratum
        strata = None if classes is None else alike(len(nothing), len(classes))
        return replace(LossHistogram.from_losses(nothing, strata=strata), columns=columns)
    cells = histogram.cells.reshape(-1, histogram.bins + 1)  # (classes, bins and the unseen)
    seen = np.rint(cells[:, :-1] * (1 - unseen)).astype(np.int64)
    rest = cells.sum(axis=1) - seen.sum(axis=1)
    counts = seen.sum(axis=0)
    by_class = None if histogram.by_stratum is None else np.column_stack([seen, rest])
    return LossHistogram(histogram.binning, counts, int(rest.sum()), by_class, columns)
