"""The exact draw: as many samples as the budget says, no more and no fewer.

Takes the place of `draw.draw_mask` where an epoch has a known length; costs about as much.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.coins import coins_of
from seta.engine.curve import KeepCurve
from seta.engine.draw import set_bits, thresholds_of
from seta.engine.histogram import LossHistogram

_DEVIATIONS = 6.0  # half the band, in standard deviations of the count


def draw_exactly(
    count: int,
    losses: NDArray[np.float32],
    histogram: LossHistogram,
    curve: KeepCurve,
    *,
    seed: int,
    epoch: int,
    threads: int,
    without: NDArray[np.int64] | None = None,
    strata: NDArray[np.unsignedinteger[Any]] | None = None,
) -> tuple[NDArray[np.uint8], int]:
    """Draws exactly `count` samples: the certain ones, and those with the smallest coin / keep.

    Sequential Poisson sampling (Ohlsson, "Sequential Poisson Sampling", Journal of Official
    Statistics 14/2, 1998). One pass sorts the samples into surely drawn, surely not, and a narrow
    band around the curve, of which the smallest ratios are taken.

    Args:
        count: Samples to draw; what the curve keeps in expectation (`fit.fit`).
        losses: float32 (N,), NaN = unseen.
        histogram: Of the samples that take part.
        curve: Keep probabilities, made for it.
        seed: Of the run.
        epoch: Whose coins to toss, where the curve names no other.
        threads: Threads to use.
        without: Sorted indices of samples that take no part.
        strata: Unsigned integers (N,), of a curve that has strata; None: it has none.

    Returns:
        The mask, as `draw_mask` returns it, and by how many samples tossing the coins alone would
        have missed the count (positive: that many too many).
    """
    keep, binning = curve.keep_by_cell, histogram.binning
    mask = np.empty(-(-losses.size // 8), np.uint8)
    absent = np.zeros(0, np.int64) if without is None else without

    def draw(
        span: range, low: NDArray[np.uint32], high: NDArray[np.uint32]
    ) -> list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
        found = []
        for block, coin in coins_of(span, curve, seed, epoch):
            cells = binning.cells_of(losses[block], None if strata is None else strata[block])
            sure = coin <= low.take(cells, mode="clip")
            band = coin <= high.take(cells, mode="clip")
            out = absent[slice(*np.searchsorted(absent, (block.start, block.stop)))] - block.start
            sure[out] = band[out] = False
            mask[block.start // 8 : -(-block.stop // 8)] = np.packbits(sure)
            at = np.flatnonzero(band & ~sure)
            ratio = coin[at] / keep.take(cells[at], mode="clip")
            found.append((int(np.count_nonzero(sure)), at + block.start, ratio))
        return found

    for width in (_band_width(histogram, curve), np.inf):
        low, high = _band(keep, width)
        parts = parallel.run(
            partial(draw, low=low, high=high),
            parallel.spans(losses.size, threads),
            threads,
        )
        sure = [part[0] for found in parts for part in found]
        at = np.concatenate([part[1] for found in parts for part in found])
        ratio = np.concatenate([part[2] for found in parts for part in found])
        missing = count - sum(sure)
        if 0 <= missing <= len(at):
            break
    set_bits(mask, at[np.argsort(ratio, kind="stable")[:missing]])
    return mask, int(np.count_nonzero(ratio < 2**32)) - missing


def _band_width(histogram: LossHistogram, curve: KeepCurve) -> float:
    """Returns d so that the exact threshold lies within 1 +- d of the curve, all but surely."""
    keep = curve.keep_by_cell
    counts = histogram.cells * (keep < 1)
    mass = float(counts @ keep)
    deviation = float(np.sqrt(counts @ (keep * (1 - keep))))
    return (_DEVIATIONS * deviation + 1) / mass if mass else np.inf


def _band(keep: NDArray[np.float64], width: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Returns the coins, by bin, up to which a sample is surely drawn, and up to which maybe."""
    open_ = (keep > 0) & (keep < 1)
    low = np.where(open_, keep * max(0.0, 1 - width), keep)
    high = np.where(open_, np.minimum(keep * (1 + width), 1.0) if width < 1 else 1.0, keep)
    return thresholds_of(low), thresholds_of(high)
