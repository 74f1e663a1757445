"""The partition: which samples belong to which shard, and where in its shard a sample lies.

The dataset is cut into a fixed number of shards, whatever the number of ranks; a rank owns a run of
neighbouring shards, whole. Sample i is number r of block q, `q, r = divmod(i, shards)`, and belongs
to shard `(stride * r + rotation of q) % shards`, at place q: every whole block gives each shard one
sample. The stride, near the golden section of the number of shards, sends neighbouring samples far
apart: of any run of neighbouring samples (a class, where labels are sorted) each rank owns its part
to within 20 samples. The rotation, a hash of the block, lets no period of the dataset match.

`slot = shard * length + place` numbers the samples shard after shard. Slots whose place has no
sample are absent. Every shard begins at a whole byte of a bit mask over the slots.

Cost: 4 ns per sample on one core for `slot_of`, and for `index_of`; 8 bytes per block of samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import gcd, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel

_MOST_SHARDS = 61_440  # 2**12 * 15: most numbers of ranks divide it, or nearly
_FEWEST_SHARDS = 240
_SAMPLES = 256  # in each shard, at least, where there are enough for _FEWEST_SHARDS
_VALUES = 1 << 14  # numbers converted at a time


def shards_of(n: int) -> int:
    """Returns the number of shards of n samples: 15 times a power of two, 240 to 61,440.

    Examples:
        >>> shards_of(50_000), shards_of(10**6), shards_of(10**9)
        (240, 3840, 61440)
    """
    shards = _MOST_SHARDS
    while shards > _FEWEST_SHARDS and n // shards < _SAMPLES:
        shards //= 2
    return shards


@dataclass(frozen=True)
class Partition:
    """Samples 0..n-1 in shards whose sizes differ by at most one.

    Attributes:
        n: Number of samples, >= 1.
        shards: Number of shards, >= 1; `shards_of(n)`.
    """

    n: int
    shards: int

    @cached_property
    def length(self) -> int:
        """Slots of each shard, a multiple of 8."""
        return -(-self.n // (8 * self.shards)) * 8

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Samples of each shard: int64 (shards,). They lie at the places 0 .. size - 1."""
        rest = np.arange(self.n - self.n % self.shards, self.n)
        sizes: NDArray[np.int64] = np.bincount(self.shard_of(rest), minlength=self.shards)
        return sizes + self.n // self.shards

    def owned(self, rank: int, ranks: int) -> range:
        """Returns the shards of a rank.

        Args:
            rank: 0 .. ranks - 1.
            ranks: 1 .. shards.

        Raises:
            ValueError: There are more ranks than shards.
        """
        if ranks > self.shards:
            raise ValueError(
                f"ranks must be at most the {self.shards} shards of {self.n} samples, got {ranks}: "
                "so small a table needs no sharding, use sharding='replicated'"
            )
        return range(self.shards * rank // ranks, self.shards * (rank + 1) // ranks)

    def slots(self, shards: range) -> range:
        """Returns the slots of neighbouring shards."""
        return range(shards.start * self.length, shards.stop * self.length)

    def counts(self, total: int) -> NDArray[np.int64]:
        """Returns how many samples each shard draws, so that they are `total`: int64 (shards,).

        Equal parts, to within one sample. Where some shard is too small for its part, as it may be
        if fewer than `shards` samples are left out, the parts are as the sizes of the shards.

        Args:
            total: 0 .. n.

        Raises:
            ValueError: `total` is outside 0 .. n.
        """
        if not 0 <= total <= self.n:
            raise ValueError(f"total must lie in 0 .. {self.n}, the samples there are, got {total}")
        counts: NDArray[np.int64] = np.diff(np.arange(self.shards + 1) * total // self.shards)
        if np.all(counts <= self.sizes):
            return counts
        # total * (samples before) // n, of numbers that stay small.
        before = np.concatenate([[0], np.cumsum(self.sizes)])
        parts: NDArray[np.int64] = np.diff(before - -(-(self.n - total) * before // self.n))
        return parts

    def shard_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Returns the shards of samples: int64 (B,).

        Args:
            indices: Integers (B,) in 0 .. n - 1.
        """
        return _blockwise(lambda part: self._place(part)[0], indices)

    def slot_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Returns the slots of samples: int64 (B,).

        Args:
            indices: Integers (B,) in 0 .. n - 1.
        """

        def slots(part: NDArray[np.int64]) -> NDArray[np.int64]:
            shard, place = self._place(part)
            shard *= self.length
            shard += place
            return shard

        return _blockwise(slots, indices)

    def index_of(self, slots: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Returns the samples of slots: int64 (B,); n or more where a slot is absent.

        Args:
            slots: Integers (B,) in 0 .. shards * length - 1.
        """
        back = pow(self._stride, -1, self.shards)

        def indices(part: NDArray[np.int64]) -> NDArray[np.int64]:
            shard = part // self.length
            place = part - shard * self.length
            shard -= self._rotations.take(place, mode="clip")
            shard *= back
            shard -= shard // self.shards * self.shards
            shard += place * self.shards
            return shard

        return _blockwise(indices, slots)

    def _place(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns shards, and places in them."""
        block = indices // self.shards
        shard = indices - block * self.shards
        shard *= self._stride
        shard += self._rotations.take(block, mode="clip")
        shard -= shard // self.shards * self.shards
        return shard, block

    @cached_property
    def _rotations(self) -> NDArray[np.int64]:
        """By how many shards each block is rotated: int64 (length,)."""
        hashes = _splitmix64(np.arange(self.length, dtype=np.uint64))
        return (hashes % np.uint64(self.shards)).astype(np.int64)

    @cached_property
    def _stride(self) -> int:
        """How many shards lie between neighbouring samples; has no factor in common with them."""
        golden = round(self.shards * (sqrt(5) - 1) / 2)
        tried = itertools.chain.from_iterable((golden + d, golden - d) for d in itertools.count())
        return next(stride for stride in tried if gcd(stride, self.shards) == 1)


def _blockwise(
    function: Callable[[NDArray[np.int64]], NDArray[np.int64]], values: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Returns `function(values)`, made in blocks that stay near the core: int64 (B,)."""
    result = np.empty(len(values), np.int64)
    for block in parallel.blocks(range(len(values)), _VALUES):
        result[block] = function(values[block].astype(np.int64, copy=False))
    return result


def _splitmix64(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns hashes: the first output of SplitMix64 with each number as its seed.

    Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
