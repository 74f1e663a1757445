"""Index-addressable randomness: the coin of sample i is a function of (seed, epoch, purpose, i).

A counter-based view of numpy's PCG64DXSM: its state can be advanced to any position in a few
operations, so a block of samples gets the same numbers whatever block size, thread or process asks.
Only the raw output of the bit generator is used, whose stream numpy guarantees for good.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve


class Purpose(enum.IntEnum):
    """What the numbers are for. Streams of different purposes are independent."""

    KEEP = 0
    ORDER = 2


class Coins:
    """A reader of one stream, standing at some position.

    Args:
        seed: The run's seed, an integer >= 0.
        epoch: The epoch whose numbers are wanted.
        purpose: Which of the epoch's streams.
        position: Where to begin, counted in 64-bit numbers.
    """

    def __init__(self, seed: int, epoch: int, purpose: Purpose, position: int = 0) -> None:
        self._bits = np.random.PCG64DXSM(np.random.SeedSequence((seed, epoch, int(purpose))))
        self._bits.advance(position)

    def uint64(self, count: int) -> NDArray[np.uint64]:
        """Returns the next `count` numbers: uint64 (count,), uniform."""
        return self._bits.random_raw(count)

    def uint32(self, count: int) -> NDArray[np.uint32]:
        """Returns `count` numbers of 32 bits: uint32 (count,); an odd count wastes one."""
        return self.uint64(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]


def coins_of(
    span: range, curve: KeepCurve, seed: int, epoch: int, *, size: int | None = None
) -> Iterator[tuple[slice, NDArray[np.uint32]]]:
    """Yields the blocks of a span with the coins of their samples, uint32 in 1 .. 2**32 - 1.

    Args:
        span: Samples (or slots, whose coins are then meant), from a multiple of 2 on.
        curve: May name another epoch's coins, and turn them.
        seed: Of the run.
        epoch: The current one.
        size: Samples per block, a multiple of 2; by default `parallel.BLOCK`.
    """
    offset = np.uint32(int(curve.coin_offset * 2**32))
    coin_epoch = epoch if curve.coin_epoch is None else curve.coin_epoch
    coins = Coins(seed, coin_epoch, Purpose.KEEP, span.start // 2)
    for block in parallel.blocks(span, size):
        coin = coins.uint32(block.stop - block.start)
        if offset:
            np.subtract(coin, offset, out=coin)
        yield block, np.maximum(coin, 1, out=coin)
