"""The draw of a sharded table: exactly the shard's part of the epoch's samples, in every shard.

The samples of a shard queue up: those of `always_keep` first, then the certain ones, then the
others by coin / keep, and last those that the curve never keeps, the nearest to the window first.
The first `Partition.counts` of each shard are drawn. One float64 key per sample says all that, and
keys are made and partitioned for a matrix of shards at a time. Coins are addressed by slot. So what
is drawn in a shard depends on its losses, the curve, the total, seed and epoch, and on nothing
else: not on the number of ranks and threads.

Shards differ in what they hold. Where a window is kept whole, those that hold more of it than their
count leave some of it out, and the others fill up from outside it: 2 % of the samples drawn with
shards of 500 samples, 0.5 % at 5 % below the whole window, less with larger shards.

Cost: 7 ns per sample on one core, 18 where numpy finds no vector instructions; for each thread 60
bytes per slot of a block of 2**17, or of one shard where that is larger.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.fit import distances_of
from seta.engine.curves.histogram import Binning, LossHistogram
from seta.engine.draw.coins import coins_of
from seta.engine.draw.exact import miscount
from seta.engine.draw.partition import Partition

_COIN = 2.0**-32  # times a coin: in (0, 1)
_ALWAYS, _CERTAIN = -2.0, -1.0  # keys in (-2, -1) and in (-1, 0), before coin / keep
_OPEN = 2.0**-900  # times coin / keep: in range for the smallest keep > 0
_NEVER = 2.0**900  # times 2**20 + step: behind coin / keep, exact to the last bit of the coin


def draw_shards(
    losses: NDArray[np.float32],
    partition: Partition,
    shards: range,
    histogram: LossHistogram,
    curve: KeepCurve,
    total: int,
    *,
    always_keep: NDArray[np.int64] | None = None,
    seed: int,
    epoch: int,
    threads: int,
) -> NDArray[np.uint8]:
    """Draws `partition.counts(total)` samples from each of the given shards.

    Args:
        losses: float32 (slots of the shards,), in slot order, NaN = unseen or absent.
        partition: Which sample is where.
        shards: Neighbouring shards.
        histogram: Of all shards, without the samples of `always_keep`; for its bins.
        curve: Made for the histogram, and fitted to the total less the samples of `always_keep`.
        total: Samples to draw from all shards, 0 .. n.
        always_keep: Sorted slots of samples to draw before all others; those of other shards do
            not matter. Where a shard has more of them than its count, only so many are drawn.
        seed: Of the run.
        epoch: Whose coins to toss, where the curve names no other.
        threads: Threads to use.

    Returns:
        uint8 (slots / 8,), a bit for each slot (`numpy.packbits` order), set if drawn.

    Raises:
        RuntimeError: A shard holds fewer samples than its count, which `total` rules out.
    """
    own, length = partition.slots(shards), partition.length
    full = partition.n // partition.shards  # places below it are present in every shard
    counts, sizes = partition.counts(total), partition.sizes
    always = np.zeros(0, np.int64) if always_keep is None else always_keep
    keys = _Keys(curve, histogram.binning)
    mask = np.empty(len(own) // 8, np.uint8)
    rows = max(1, parallel.BLOCK // length)

    def draw(part: range) -> None:
        slots = partition.slots(part)
        for block, coin in coins_of(slots, curve, seed, epoch, size=rows * length):
            here = slice(block.start - own.start, block.stop - own.start)
            key = keys.of(losses[here], coin)
            first = always[slice(*np.searchsorted(always, (block.start, block.stop)))] - block.start
            key[first] = coin[first] * _COIN + _ALWAYS
            key = key.reshape(-1, length)
            inside = slice(block.start // length, block.stop // length)
            key[:, full:][np.arange(full, length) >= sizes[inside, None]] = np.inf
            drawn = _smallest(key, counts[inside])
            if (found := int(np.count_nonzero(drawn & np.isfinite(key)))) != counts[inside].sum():
                raise miscount(epoch, int(counts[inside].sum()), f"{found} in a run of shards")
            mask[here.start // 8 : here.stop // 8] = np.packbits(drawn)

    parallel.run(draw, _parts(shards, rows, threads), threads)
    return mask


def count_shards(
    losses: NDArray[np.float32],
    partition: Partition,
    shards: range,
    *,
    binning: Binning | None = None,
    threads: int | None = None,
) -> LossHistogram:
    """Counts the losses of shards, without the absent slots.

    Args:
        losses: float32 (slots of the shards,), in slot order, NaN = unseen or absent.
        partition: Which sample is where.
        shards: Neighbouring shards.
        binning: Of all shards, so that the histograms of different shards add up.
        threads: Threads to use; by default all cores.
    """
    histogram = LossHistogram.from_losses(losses, binning=binning, threads=threads)
    present = int(partition.sizes[shards.start : shards.stop].sum())
    return replace(histogram, unseen=histogram.unseen - (losses.size - present))


class _Keys:
    """The key of a sample, by its loss and coin: for each bin, a line over the coins."""

    def __init__(self, curve: KeepCurve, binning: Binning) -> None:
        self._binning = binning
        keep = curve.keep_by_cell
        never, certain = keep == 0, keep >= 1
        steps = np.unique(distances_of(curve)[never], return_inverse=True)[1]
        self._slope = _COIN * _OPEN / np.where(never, 1.0, keep)
        self._slope[certain], self._slope[never] = _COIN, _COIN * _NEVER
        start = np.where(certain, _CERTAIN, 0.0)
        start[never] = (2.0**20 + steps) * _NEVER
        self._start = start if start.any() else None

    def of(self, losses: NDArray[np.float32], coin: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Returns the keys: float64 (B,)."""
        bins = self._binning._bins(losses).astype(np.intp)
        key = self._slope.take(bins, mode="clip")
        key *= coin
        if self._start is not None:
            key += self._start.take(bins, mode="clip")
        return key


def _smallest(key: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Marks the `counts` smallest of each row, of equal ones the first: bool, as `key`."""
    last = np.full(len(key), -np.inf)
    # There are two counts or three, whatever the number of shards.
    for count in np.unique(counts[counts > 0]).tolist():
        rows = np.flatnonzero(counts == count)
        some = key[rows]
        some.partition(count - 1, axis=1)
        last[rows] = some[:, count - 1]
    chosen = key <= last[:, None]
    surplus = np.count_nonzero(chosen, axis=1) - counts
    for row in np.flatnonzero(surplus):
        ties = np.flatnonzero(key[row] == last[row])
        chosen[row, ties[-surplus[row] :]] = False
    return chosen


def _parts(shards: range, rows: int, threads: int) -> list[range]:
    """Cuts shards into runs of whole blocks, a few for each thread."""
    tasks = max(1, min(-(-len(shards) // rows), 4 * threads))
    edges = [shards.start + len(shards) * task // tasks for task in range(tasks + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]
