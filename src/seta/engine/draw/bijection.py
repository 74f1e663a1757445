"""A keyed permutation of 0..K-1 that is computed where it is asked, and never stored.

Up to `SMALL` numbers it is a plain table, made by sorting random numbers. Above, it is a Feistel
network: a number becomes a pair (left, right) of 0..a-1 and 0..b-1, with a a power of two and a * b
just above K, and each half in turn is changed by a hash of the other. Each of these steps can be
undone, so the whole is one-to-one. What falls on K or beyond is sent through again until it falls
below ("cycle walking"), which keeps it one-to-one on 0..K-1. Black and Rogaway: "Ciphers with
Arbitrary Finite Domains", CT-RSA 2002.

The keys come from (seed, epoch). This is for shuffling, not for secrets.

Cost: 12 ns per number on one core, twice that above 2**30; no memory, but 4 bytes per number of a
table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.draw.coins import Coins, Purpose

SMALL = 1 << 16  # numbers of a table, at most: the 48 bits above a place are random
_HALF_ROUNDS = 6  # three changes of each half
_NARROW = 1 << 30  # up to here halves have 15 bits, and hashes of 32 bits are fine enough


@dataclass(frozen=True)
class Bijection:
    """A permutation of 0..count-1, a function of (count, seed, epoch).

    Up to `SMALL` every order is equally likely, but for ties of 48-bit numbers.

    Attributes:
        count: How many numbers there are, >= 0.
        seed: Of the run.
        epoch: Of the order.
    """

    count: int
    seed: int
    epoch: int

    def at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.unsignedinteger[Any]]:
        """Returns the numbers at positions: uint32 (B,), uint64 if count > 2**30.

        It is meant for blocks of 10,000 positions or so, whose temporaries stay near the core.

        Args:
            positions: Integers (B,) in 0 .. count - 1; they are not checked.
        """
        if self.count <= SMALL:
            return self._table.take(positions.astype(np.int64, copy=False))
        number: NDArray[Any] = positions.astype(np.uint32 if self.count <= _NARROW else np.uint64)
        self._permute(number)
        while len(outside := np.flatnonzero(number >= self.count)):
            again = number[outside]
            self._permute(again)
            number[outside] = again
        return number

    @cached_property
    def _table(self) -> NDArray[np.uint32]:
        """The whole permutation: uint32 (count,)."""
        key = Coins(self.seed, self.epoch, Purpose.ORDER).uint64(self.count)
        key &= ~np.uint64(SMALL - 1)
        key |= np.arange(self.count, dtype=np.uint64)
        key.sort()
        key &= np.uint64(SMALL - 1)
        return key.astype(np.uint32)

    @cached_property
    def _left_bits(self) -> int:
        """The binary logarithm of a."""
        return ((self.count - 1).bit_length() + 1) // 2

    @cached_property
    def _keys(self) -> NDArray[np.unsignedinteger[Any]]:
        """Two odd factors and a summand for each half round: (_HALF_ROUNDS, 3)."""
        coins = Coins(self.seed, self.epoch, Purpose.ORDER)
        size = _HALF_ROUNDS * 3
        random = coins.uint32(size) if self.count <= _NARROW else coins.uint64(size)
        keys = random.reshape(_HALF_ROUNDS, 3)
        keys[:, :2] |= keys.dtype.type(1)
        return keys

    def _permute(self, number: NDArray[Any]) -> None:
        """Permutes 0 .. a * b - 1, in place."""
        word = number.dtype.type
        width, bits = 8 * number.itemsize, self._left_bits
        size = -(-self.count >> bits)  # b
        # The highest bits of a hash, times b, just fit in.
        drop = word((size - 1).bit_length())
        rest, top, half = word(width - int(drop)), word(width - bits), word(width // 2)
        left, right = number & word((1 << bits) - 1), number >> word(bits)
        x, y = np.empty_like(number), np.empty_like(number)
        for step, (first, second, summand) in enumerate(self._keys):
            np.multiply(right if step % 2 else left, first, out=x)
            x += summand
            x ^= np.right_shift(x, half, out=y)
            x *= second
            if step % 2:
                x >>= top
                left ^= x
            else:
                x >>= drop
                x *= word(size)
                x >>= rest
                right += x
                # Modulo b: below b, the difference wraps around to a huge number.
                np.minimum(right, np.subtract(right, word(size), out=x), out=right)
        np.left_shift(right, word(bits), out=number)
        number |= left
