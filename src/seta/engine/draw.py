"""The draw: losses and a keep curve become the epoch's samples, in random order.

Passes over blocks that fit the cache. `draw_mask` tosses one 32-bit coin per sample, addressed by
its index, against the curve at its loss: one bit per sample comes out. `shuffled` makes of the bits
the training order: it counts how many kept samples of each block fall into each of some random
buckets, throws them straight to where the bucket will be, and sorts each bucket by random numbers.
Neither depends on the number of threads.

Cost: some nanoseconds, and 4 bytes per kept sample: the order itself. Beside it each thread has
what a block or a bucket takes: some MB, or 0.05 bytes per kept sample if that is more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.coins import Coins, Purpose, coins_of
from seta.engine.curve import KeepCurve
from seta.engine.histogram import Binning

_PLACE_BITS = 17
_BLOCK = 1 << _PLACE_BITS  # samples scattered at a time; their random keys have 32 bits in all
_BUCKET = 1 << 17  # kept samples per bucket, at most, on average, ...
_BUCKET_BITS = 8  # ... unless the pieces of a block would be too small to be worth a copy each
_COIN_MAX = 0xFFFF_FFFF
_FEW_RUNS = 3


@dataclass(frozen=True, eq=False)
class Selection:
    """The samples of one epoch.

    Attributes:
        epoch: The epoch.
        indices: uint32 (M,), uint64 from 2**32 samples on: the samples in training order.
        weights: float32 (M,), the factor of each sample's loss; None: all 1.
    """

    epoch: int
    indices: NDArray[np.unsignedinteger[Any]]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.indices)


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


def set_bits(mask: NDArray[np.uint8], indices: NDArray[np.integer[Any]]) -> None:
    """Marks samples as kept, in place."""
    at = indices.astype(np.int64)
    np.bitwise_or.at(mask, at >> 3, (0x80 >> (at & 7)).astype(np.uint8))


def shuffled(
    mask: NDArray[np.uint8], n: int, *, seed: int, epoch: int, threads: int
) -> NDArray[np.unsignedinteger[Any]]:
    """Returns the kept samples in random order, a function of (mask, seed, epoch).

    Every order is equally likely, but for the ties of 32-bit numbers within a bucket (a pair or two
    in 100,000 samples), which fall back to the order of the indices.

    Args:
        mask: uint8 (ceil(n / 8),), a bit for each sample.
        n: Number of samples.
        seed: Of the run.
        epoch: Of the order.
        threads: Threads to use.

    Returns:
        uint32 (M,); uint64 if n >= 2**32.
    """
    cuts = _cuts(mask, n, seed, epoch, threads)
    kept = int(cuts[:, -1].sum(dtype=np.int64))
    bits = min(_BUCKET_BITS, max(0, (kept - 1).bit_length() - _BUCKET.bit_length() + 1))
    cuts = cuts[:, :: 1 << _BUCKET_BITS - bits]
    # Pieces lie bucket after bucket, and within a bucket block after block.
    starts = np.concatenate([[0], np.cumsum(np.diff(cuts, axis=1).T, dtype=np.int64)])
    bounds = starts[:: len(cuts)].tolist()
    order: NDArray[Any] = np.empty(kept, np.uint32 if n < 2**32 else np.uint64)
    target = order.data  # whose slices cost less than those of an array

    def scatter(span: range) -> None:
        for block in parallel.blocks(span, _BLOCK):
            at = block.start // _BLOCK
            key = np.flatnonzero(_members(mask, block)).astype(np.uint32)
            if bits:
                # 15 random bits above the 17 that tell the place in the block.
                random = _bucket_coins(at, len(key), seed, epoch)
                key |= random.astype(np.uint32) << np.uint32(_PLACE_BITS)
                key.sort()
                key &= np.uint32(_BLOCK - 1)
            samples = (key + order.dtype.type(block.start)).data
            first, last = cuts[at, :-1].tolist(), cuts[at, 1:].tolist()
            for start, i, j in zip(starts[at : -1 : len(cuts)].tolist(), first, last, strict=True):
                target[start : start + j - i] = samples[i:j]

    def sort(buckets: range) -> None:
        for bucket in buckets:
            start, stop = bounds[bucket], bounds[bucket + 1]
            _sort_by(Coins(seed, epoch, Purpose.ORDER, start), order[start:stop])

    parallel.run(scatter, parallel.spans(n, threads), threads)
    step = -(-(1 << bits) // (4 * threads))
    tasks = [range(b, min(b + step, 1 << bits)) for b in range(0, 1 << bits, step)]
    parallel.run(sort, tasks, threads)
    return order


def _cuts(
    mask: NDArray[np.uint8], n: int, seed: int, epoch: int, threads: int
) -> NDArray[np.int32]:
    """Cuts the kept samples of each block into 2**8 random buckets.

    Neighbouring buckets add up to the buckets that fewer bits make.

    Returns:
        int32 (blocks, 2**8 + 1): how many of a block lie below each bucket; all of them, last.
    """
    cuts = np.zeros((-(-n // _BLOCK), (1 << _BUCKET_BITS) + 1), np.int32)
    buckets = np.arange(1, 1 << _BUCKET_BITS, dtype=np.uint8)

    def cut(span: range) -> None:
        for block in parallel.blocks(span, _BLOCK):
            at = block.start // _BLOCK
            cuts[at, -1] = np.count_nonzero(_members(mask, block))
            random = _bucket_coins(at, int(cuts[at, -1]), seed, epoch)
            # numpy.bincount would keep the other threads waiting.
            bucket = (random >> np.uint16(15 - _BUCKET_BITS)).astype(np.uint8)
            bucket.sort(kind="stable")
            cuts[at, 1:-1] = bucket.searchsorted(buckets)

    parallel.run(cut, parallel.spans(n, threads), threads)
    return cuts


def _members(mask: NDArray[np.uint8], block: slice) -> NDArray[np.bool_]:
    """Returns which samples of a block are kept."""
    return np.unpackbits(mask[block.start // 8 : -(-block.stop // 8)]).view(np.bool_)


def _bucket_coins(block: int, count: int, seed: int, epoch: int) -> NDArray[np.uint16]:
    """Returns the numbers whose lower 15 bits throw the kept samples of a block into buckets."""
    return Coins(seed, epoch, Purpose.BUCKET, block * (_BLOCK // 4)).uint16(count)


def _sort_by(coins: Coins, members: NDArray[Any]) -> None:
    """Brings the members into the order of random numbers."""
    if members.dtype != np.uint32:
        members[:] = members[np.argsort(coins.uint64(len(members)), kind="stable")]
        return
    key = coins.uint32(len(members)).astype(np.uint64)
    key <<= np.uint64(32)
    key |= members
    key.sort()
    members[:] = key
