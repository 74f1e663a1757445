"""The selection: the samples of an epoch in training order, computed when they are read.

An order is a function from positions to samples. So a selection costs nothing until a part of it is
read, and reading a part (after a resume, or one rank's share) computes nothing before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from seta.engine import parallel

Samples = NDArray[np.unsignedinteger[Any]]
Weigh = Callable[[Samples], NDArray[np.float32]]

_READ = 1 << 14  # samples made at a time where they are read one by one


class Order(Protocol):
    """Which sample comes at which position of an epoch."""

    def __len__(self) -> int:
        """Number of positions."""

    def at(self, positions: NDArray[np.int64]) -> Samples:
        """Returns the samples at positions (B,): uint32 (B,), uint64 from 2**32 samples on."""


class Listed:
    """An order that is stored as an array."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        """Number of positions."""
        return len(self._samples)

    def at(self, positions: NDArray[np.int64]) -> Samples:
        """Returns the samples at positions."""
        return self._samples[positions]


class Selection:
    """The samples of an epoch, or of one rank's share of it, in training order.

    `Pruner.begin_epoch` and `Pruner.share` return one. It is a sequence of sample indices: `len`,
    iteration, `selection[3]` and `selection[a:b]` (an array). `indices` is the array of all,
    `weights` has their loss weights, `blocks` iterates over arrays, and `part` returns the
    selection of some positions. `numpy.asarray` accepts it.

    Args:
        epoch: Number of the epoch.
        order: The sample at each position.
        weigh: Function that returns the weights of samples; None: all weights are 1.
        positions: Positions of the order that belong to the selection; None: all.
        threads: Number of threads for `indices`.

    Attributes:
        epoch: Number of the epoch.

    Examples:
        >>> import seta
        >>> selection = seta.Pruner(5, "Full", epochs=1, seed=1).begin_epoch()
        >>> len(selection), sorted(selection), len(selection[1:4])
        (5, [0, 1, 2, 3, 4], 3)
    """

    def __init__(
        self,
        epoch: int,
        order: Order,
        weigh: Weigh | None = None,
        *,
        positions: range | None = None,
        threads: int = 1,
    ) -> None:
        self.epoch = epoch
        self._order, self._weigh, self._threads = order, weigh, threads
        self._some = positions

    @cached_property
    def _positions(self) -> range:
        return range(len(self._order)) if self._some is None else self._some

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._positions)

    def __repr__(self) -> str:
        """Returns epoch and length."""
        return f"<Selection of epoch {self.epoch}: {len(self)} samples>"

    @cached_property
    def indices(self) -> Samples:
        """All samples: uint32 (M,), uint64 from 2**32 samples on; read-only, computed once."""
        result = np.empty(len(self), self._made(range(0)).dtype)

        def fill(span: range) -> None:
            for block in parallel.blocks(span):
                result[block] = self._made(self._positions[block])

        parallel.run(fill, parallel.spans(len(self), self._threads), self._threads)
        result.flags.writeable = False  # the order of the epoch is as it is
        return result

    @cached_property
    def weights(self) -> NDArray[np.float32] | None:
        """Loss weight of each sample: float32 (M,), read-only; None if all weights are 1."""
        weights = None if self._weigh is None else self._weigh(self.indices)
        if weights is not None:
            weights.flags.writeable = False
        return weights

    def blocks(self, size: int = _READ) -> Iterator[Samples]:
        """Returns an iterator over all samples in arrays of `size`; the last may be shorter.

        Raises:
            ValueError: `size` is less than 1.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}: the samples of a block")
        return (self[start : start + size] for start in range(0, len(self), size))

    def part(self, positions: slice) -> Selection:
        """Returns the selection of a slice of the positions, without computing it."""
        return Selection(
            self.epoch,
            self._order,
            self._weigh,
            positions=self._positions[positions],
            threads=self._threads,
        )

    def __iter__(self) -> Iterator[int]:
        """Iterates over the samples as Python integers."""
        return chain.from_iterable(block.tolist() for block in self.blocks())

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice | list[int] | NDArray[Any]) -> Samples: ...

    def __getitem__(self, at: int | slice | list[int] | NDArray[Any]) -> int | Samples:
        """Returns one sample, or an array for a slice, a list of positions or a mask."""
        if isinstance(at, slice):
            return self._made(self._positions[at])
        if isinstance(at, list) or (isinstance(at, np.ndarray) and at.ndim):
            return self.indices[at]
        position = self._positions[at]
        return int(self._made(range(position, position + 1))[0])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Returns all samples, for `numpy.asarray`."""
        samples = self.indices
        return samples.astype(samples.dtype if dtype is None else dtype, copy=bool(copy))

    def _made(self, positions: range) -> Samples:
        return self._order.at(np.arange(positions.start, positions.stop, positions.step))
