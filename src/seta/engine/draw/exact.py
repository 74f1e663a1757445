"""The exact draw: selects exactly as many samples as the budget allows.

Takes the place of `draw.draw_mask` where an epoch has a known length; costs about as much.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.sums import dot
from seta.engine.draw.coins import coins_of
from seta.engine.draw.mask import set_bits

_DEVIATIONS = 6.0  # half the band, in standard deviations of the count
_COIN_MAX = 0xFFFF_FFFF
_COIN = 2.0**-932  # times a coin: by the smallest keep > 0 it may still be divided
_ONE = _COIN * 2**32  # that of a coin at the keep probability of its sample


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

    Raises:
        RuntimeError: The curve was not fitted to the count, or is not of these samples.
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
            ratio = coin[at] * _COIN / keep.take(cells[at], mode="clip")
            found.append((int(np.count_nonzero(sure)), at + block.start, ratio))
        return found

    for width in (_band_width(histogram, curve), np.inf):
        low, high = _band(keep, width)
        parts = parallel.run(
            partial(draw, low=low, high=high),
            parallel.spans(losses.size, threads),
            threads,
        )
        sure = sum(part[0] for found in parts for part in found)
        at = np.concatenate([part[1] for found in parts for part in found])
        ratio = np.concatenate([part[2] for found in parts for part in found])
        missing = count - sure
        if 0 <= missing <= len(at):
            set_bits(mask, at[np.argsort(ratio, kind="stable")[:missing]])
            return mask, int(np.count_nonzero(ratio < _ONE)) - missing
    raise miscount(epoch, count, f"{sure} certain samples and {len(at)} possible ones")


def miscount(epoch: int, count: int, found: str) -> RuntimeError:
    """Returns the error of a draw that cannot have its count, to be raised before it is used."""
    return RuntimeError(
        f"epoch {epoch} must draw exactly {count} samples, got {found}: the curve was not fitted "
        "to that count, or not made for these losses. Within a Pruner that is a fault of seta, "
        "please report it"
    )


def _band_width(histogram: LossHistogram, curve: KeepCurve) -> float:
    """Returns d so that the exact threshold lies within 1 +- d of the curve, all but surely."""
    keep = curve.keep_by_cell
    counts = histogram.cells * (keep < 1)
    mass = dot(counts, keep)
    deviation = math.sqrt(dot(counts, keep * (1 - keep)))
    return (_DEVIATIONS * deviation + 1) / mass if mass else np.inf


def _band(keep: NDArray[np.float64], width: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Returns the coins, by cell, up to which a sample is surely drawn, and up to which maybe."""
    open_ = (keep > 0) & (keep < 1)
    low = np.where(open_, np.floor(keep * max(0.0, 1 - width) * 2**32), keep * _COIN_MAX)
    high = np.ceil(keep * (1 + width) * 2**32) if width < 1 else _COIN_MAX
    high = np.where(open_, np.minimum(high, _COIN_MAX), low)
    return low.astype(np.uint32), high.astype(np.uint32)
