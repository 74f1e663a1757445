"""From a keep curve to the epoch's mask: the free draw, or the exact one under a budget."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.fit import fit
from seta.engine.curves.histogram import LossHistogram
from seta.engine.draw.coins import Coins, Purpose
from seta.engine.draw.exact import draw_exactly
from seta.engine.draw.mask import draw_mask, set_bits
from seta.engine.draw.partition import Partition
from seta.engine.draw.shards import draw_shards
from seta.engine.steps import Steps

logger = logging.getLogger(__name__)

_FREE: dict[str, Any] = dict.fromkeys(("fit_factor", "fit_widened", "fit_trimmed"))
"""The figures of an epoch whose length is free."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What is trained in an epoch.

    Attributes:
        mask: uint8 (ceil(N / 8),), a bit for each sample, set if kept.
        curve: The keep curve, fitted to the budget where there is one.
        figures: `fit_factor`, `fit_widened` and `fit_trimmed` for the epoch's row.
        kept: How many samples are chosen, where others choose some of them; None: those of `mask`.
    """

    mask: NDArray[np.uint8]
    curve: KeepCurve
    figures: dict[str, Any]
    kept: int | None = None


def choose(
    losses: NDArray[np.float32],
    histogram: LossHistogram,
    curve: KeepCurve,
    *,
    count: int | None,
    sizes: Steps,
    always_keep: NDArray[np.int64] | None,
    seed: int,
    epoch: int,
    threads: int,
    strata: NDArray[np.unsignedinteger[Any]] | None = None,
) -> Choice:
    """Chooses the samples of an epoch.

    Without a count, that is as many as the curve keeps in expectation, to the nearest whole global
    batch; where a batch is one sample, as many as the coins say.

    Args:
        losses: float32 (N,), NaN = unseen.
        histogram: Of these losses.
        curve: The policy's, made for the histogram.
        count: How many samples to choose; None: as many as the curve says, but at least one.
        sizes: Of the run.
        always_keep: Sorted indices of samples that are chosen whatever the curve says.
        seed: Of the run.
        epoch: The epoch.
        threads: Threads to use.
        strata: Unsigned integers (N,), of a histogram that has strata; None: it has none.
    """
    curve = curve.for_histogram(histogram)
    others, always = histogram, 0 if always_keep is None else len(always_keep)
    if always_keep is not None:
        gone = None if strata is None else strata[always_keep]
        others = _without(histogram, losses[always_keep], gone)
    if count is None and sizes.global_batch > 1:
        count = count_of(curve, others, always, sizes)
    where: dict[str, Any] = {"seed": seed, "epoch": epoch, "threads": threads, "strata": strata}
    figures = dict(_FREE)
    if count is None:
        mask = draw_mask(losses, histogram.binning, curve, **where)
    else:
        curve, figures = _fitted(curve, others, count - always)
        mask, figures["fit_trimmed"] = draw_exactly(
            count - always, losses, others, curve, without=always_keep, **where
        )
    if always_keep is not None:
        set_bits(mask, always_keep)
    if not mask.any():
        one = Coins(seed, epoch, Purpose.ORDER).uint64(1) % np.uint64(len(losses))
        logger.warning(
            "epoch %d: the keep curve kept none of %d samples; sample %d is trained alone",
            epoch, len(losses), int(one[0]),
        )  # fmt: skip
        set_bits(mask, one)
    return Choice(mask, curve, figures)


def choose_shards(
    losses: NDArray[np.float32],
    partition: Partition,
    shards: range,
    histogram: LossHistogram,
    kept_always: LossHistogram,
    curve: KeepCurve,
    *,
    count: int | None,
    sizes: Steps,
    always_keep: NDArray[np.int64] | None,
    seed: int,
    epoch: int,
    threads: int,
) -> Choice:
    """Chooses the samples of some shards: their parts of an epoch of all.

    Args:
        losses: float32 (slots of the shards,), NaN = unseen or absent.
        partition: Which sample is where.
        shards: Neighbouring shards.
        histogram: Of all samples.
        kept_always: Of those that are chosen whatever the curve says.
        curve: The policy's, made for the histogram.
        count: How many to choose of all; None: as many as the curve says, to the nearest whole
            global batch.
        sizes: Of the run.
        always_keep: Sorted slots of the samples that are chosen whatever the curve says.
        seed: Of the run.
        epoch: The epoch.
        threads: Threads to use.
    """
    always, others, figures = kept_always.total, histogram, dict(_FREE)
    if always:
        counts = histogram.counts - kept_always.counts
        others = LossHistogram(histogram.binning, counts, histogram.unseen - kept_always.unseen)
    free = count is None and sizes.global_batch == 1
    if count is None:
        count = count_of(curve, others, always, sizes)
    if not free:
        curve, figures = _fitted(curve, others, count - always)
    mask = draw_shards(
        losses,
        partition,
        shards,
        others,
        curve,
        count,
        always_keep=always_keep,
        seed=seed,
        epoch=epoch,
        threads=threads,
    )
    return Choice(mask, curve, figures, kept=count)


def _fitted(
    curve: KeepCurve, others: LossHistogram, count: int
) -> tuple[KeepCurve, dict[str, Any]]:
    """Returns the curve fitted to a count, and the figures that tell how."""
    fitted = fit(curve, others, count)
    factor = fitted.factor if np.isfinite(fitted.factor) else None
    return fitted.curve, {**_FREE, "fit_factor": factor, "fit_widened": fitted.widened}


def count_of(curve: KeepCurve, others: LossHistogram, always: int, sizes: Steps) -> int:
    """Returns how many samples an epoch has without a budget, in whole global batches.

    Args:
        curve: The policy's.
        others: The samples that it decides on.
        always: How many are chosen beside them, whatever it says.
        sizes: Of the run.
    """
    count = sizes.nearest(always + curve.expected(others))
    if count < always:  # rounded down
        count = min(count + sizes.global_batch, sizes.most)
    return count


def _without(
    histogram: LossHistogram,
    losses: NDArray[np.float32],
    strata: NDArray[np.unsignedinteger[Any]] | None,
) -> LossHistogram:
    """Returns the histogram less these losses."""
    cells = histogram.binning.cells_of(losses, strata)
    gone = np.bincount(cells, minlength=len(histogram.cells)).reshape(-1, histogram.bins + 1)
    total, by_stratum = gone.sum(axis=0), histogram.by_stratum
    return replace(
        histogram,
        counts=histogram.counts - total[:-1],
        unseen=histogram.unseen - int(total[-1]),
        by_stratum=None if by_stratum is None else by_stratum - gone,
    )
