"""A pass over one epoch of a `Loop`, and the seed of its workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from seta.engine import Pruner
from seta.torch.dataset import indices_of

if TYPE_CHECKING:
    from seta.torch.loop import Loop

_WORKERS = 0x5E7A  # keeps the seeds of the workers apart from other uses of the run's seed


class Pass:
    """Iterator over one epoch. Raises if the epoch ended or another pass began meanwhile."""

    __slots__ = ("_batches", "_came", "_failed", "_given", "_left", "_loop", "_over")

    def __init__(self, loop: Loop, batches: Iterator[Any], left: int) -> None:
        self._loop, self._batches, self._left = loop, batches, left
        self._given = loop._given
        self._came = self._failed = 0
        self._over = False

    def __iter__(self) -> Pass:
        """Returns itself."""
        return self

    def __next__(self) -> Any:
        """Returns the next batch.

        Raises:
            RuntimeError: A newer iteration, `set_epoch` or `end_epoch` came since this one began.
        """
        if self._over:
            raise StopIteration
        loop, given = self._loop, self._given
        if loop._given is not given:
            self._batches = iter(())
            if given.count == self._left:  # all came, and the epoch was ended by hand
                loop._closed_at = 0
                raise StopIteration
            raise RuntimeError(
                f"this iterator belongs to a pass over epoch {given.epoch} that has ended: a newer "
                "iteration, set_epoch or end_epoch came since. One loader serves one pass at a time"
            )
        try:
            packed, batch = next(self._batches)
        except StopIteration:
            given.fail(self._failed)
            self._over = True
            self._batches = iter(())
            loop._came_to_its_end(self._left - given.count)
            raise
        except BaseException:
            self._failed += 1
            raise
        indices = indices_of(packed)
        if self._failed:
            given.fail(loop._passed_over(indices, self._failed))
            self._failed = 0
        self._came += 1
        if self._came > self._left:
            raise RuntimeError(
                f"the pass over epoch {given.epoch} gives out more than the {self._left} batches "
                "that were selected: walk() must iterate over a PrunedSampler"
            )
        given.give(indices)
        return (torch.from_numpy(indices.copy()), batch) if loop._with_indices else batch


def worker_seed(pruner: Pruner, rank: int | None) -> int:
    """Returns the seed of the workers for a pass over the open epoch; reproducible.

    Args:
        pruner: The pruner, with an open epoch.
        rank: Rank of this process; None: it is alone.
    """
    key = (pruner.seed, pruner.epoch, _WORKERS, *(() if rank is None else (rank,)))
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
