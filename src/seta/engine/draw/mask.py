"""The draw: losses and a keep curve become the epoch's mask, one bit per sample.

Passes over blocks that fit the cache: each sample's 32-bit coin, addressed by its index, is tossed
against the curve at its loss. The mask does not depend on the number of threads.

Cost: a nanosecond or a few per sample, and one bit; beside it some MB for each thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning
from seta.engine.draw.coins import coins_of

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
_COIN_MAX = 0xFFFF_FFFF
_FEW_RUNS = 3


def draw_mask(
    losses: NDArray[np.float32],
    binning: Binning,
    curve: KeepCurve,
    *,
    seed: int,
    epoch: int,
    threads: int,
    strata: NDArray[np.unsignedinteger[Any]] | None = None,
) -> NDArray[np.uint8]:
    """Tosses every sample's coin.

    Args:
        losses: float32 (N,), NaN = unseen.
        binning: Of the histogram that the curve was made for.
        curve: Keep probabilities.
        seed: Of the run.
        epoch: Whose coins to toss, where the curve names no other.
        threads: Threads to use.
        strata: Unsigned integers (N,), of a curve that has strata; None: it has none.

    Returns:
        uint8 (ceil(N / 8),), a bit for each sample (`numpy.packbits` order), set if kept.
    """
    thresholds = thresholds_of(curve.keep_by_cell)
    constant = bool((thresholds == thresholds[0]).all())
    if constant and thresholds[0] in (0, _COIN_MAX):
        return np.packbits(np.broadcast_to(thresholds[0] != 0, losses.shape))
    mask = np.empty(-(-losses.size // 8), np.uint8)
    runs = _runs(thresholds, binning) if strata is None else []

    def draw(span: range) -> None:
        for block, coin in coins_of(span, curve, seed, epoch):
            if constant:
                kept = coin <= thresholds[0]
            elif strata is None and len(runs) <= _FEW_RUNS:
                kept = _kept_by_runs(coin, losses[block], runs, thresholds[-1])
            else:
                cells = binning.cells_of(losses[block], None if strata is None else strata[block])
                kept = coin <= thresholds.take(cells, mode="clip")
            mask[block.start // 8 : -(-block.stop // 8)] = np.packbits(kept)

    parallel.run(draw, parallel.spans(losses.size, threads), threads)
    return mask


def thresholds_of(keep: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Returns t so that a coin of 1 .. 2**32 - 1 is kept if coin <= t: never at 0, always at 1.

    That is coin < keep * 2**32, with the coin 0 counted as 1 lest it pass a probability of 0.
    """
    return (np.clip(np.rint(keep * 2**32), 1, 2**32) - 1).astype(np.uint32)


_Run = tuple[np.float32, np.float32, np.uint32]


def _runs(thresholds: NDArray[np.uint32], binning: Binning) -> list[_Run]:
    """Returns the runs of bins with equal thresholds above 0, as (lowest loss, end, threshold)."""
    seen = thresholds[:-1]
    first = np.concatenate([[0], np.flatnonzero(seen[1:] != seen[:-1]) + 1])
    low = binning.edges[first].astype(np.float32)
    low[0] = -np.inf
    end = np.append(low[1:], np.float32(np.inf))
    return [run for run in zip(low, end, seen[first], strict=True) if run[2]]


def _kept_by_runs(
    coin: NDArray[np.uint32], losses: NDArray[np.float32], runs: list[_Run], unseen: np.uint32
) -> NDArray[np.bool_]:
    """Returns what looking up the bins would, by a few comparisons: most curves are steps."""
    kept = np.isnan(losses)
    kept &= coin <= unseen
    for low, end, threshold in runs:
        inside = losses >= low
        inside &= losses < end
        inside &= coin <= threshold
        kept |= inside
    return kept


def count_bits(mask: NDArray[np.uint8]) -> int:
    """Returns how many samples are kept."""
    parts = (mask[block] for block in parallel.blocks(range(len(mask))))
    return sum(int(_BITS.take(part).sum(dtype=np.int64)) for part in parts)


def set_bits(mask: NDArray[np.uint8], indices: NDArray[np.integer[Any]]) -> None:
    """Marks samples as kept, in place."""
    at = indices.astype(np.int64)
    np.bitwise_or.at(mask, at >> 3, (0x80 >> (at & 7)).astype(np.uint8))
