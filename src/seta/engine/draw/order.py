"""The order of an epoch as a function of (seed, epoch, position): nothing is shuffled or stored.

The sample at a position is the r-th kept one of the epoch's mask (`select`), where r is where a
keyed permutation sends the position (`bijection`). So an epoch begins at once, a resumed one
anywhere, and each rank computes its own part alone.

Cost: the directory of `select`, made when first needed; on one core 30 ns per sample of a million,
55 of 10**8. Ask for thousands of positions at a time: a call takes 0.1 ms, however few they are.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.draw.bijection import Bijection
from seta.engine.draw.select import Select

_POSITIONS = 1 << 14  # computed at a time


class Order:
    """The kept samples of an epoch in random order.

    Args:
        mask: uint8 (ceil(n / 8),), a bit for each sample (`numpy.packbits` order); bits beyond n
            are 0. It must not change.
        n: Number of samples.
        seed: Of the run.
        epoch: Of the order.
    """

    def __init__(self, mask: NDArray[np.uint8], n: int, *, seed: int, epoch: int) -> None:
        self._mask, self._n = mask, n
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        """Number of kept samples."""
        return self._kept.count

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Of the samples: uint32, uint64 if n >= 2**32."""
        return np.dtype(self._kept.dtype)

    def at(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.unsignedinteger[Any]]:
        """Returns the samples at positions: uint32 (B,), uint64 if n >= 2**32.

        Args:
            positions: Integers (B,) in 0 .. len - 1, in any order.

        Raises:
            IndexError: A position is outside.
        """
        if len(positions):
            self._check(int(positions.min()), int(positions.max()))
        samples = np.empty(len(positions), self.dtype)
        for block in parallel.blocks(range(len(positions)), _POSITIONS):
            samples[block] = self._kept.at(self._ranks.at(positions[block]))
        return samples

    @cached_property
    def _kept(self) -> Select:
        return Select(self._mask, self._n)

    @cached_property
    def _ranks(self) -> Bijection:
        return Bijection(self._kept.count, self._seed, self._epoch)

    def _check(self, low: int, high: int) -> None:
        if low < 0 or high >= len(self):
            raise IndexError(
                f"positions must be at least 0 and below {len(self)}, the number of samples of "
                f"epoch {self._epoch}, got {low if low < 0 else high}: see len(order)"
            )
