"""The epoch's plan as an index-level torch sampler.

It stands under torch's own `BatchSampler`, where frameworks look for `set_epoch`. It is a view:
the plan belongs to the `Pruner` (or to the loader, which stands before it), is made once per epoch;
and `set_epoch`, `len` and `iter` read it as often as they like. No counter moves here.

Cost: the plan's 4 bytes per sample, held by the pruner; Python integers are made some thousands at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from seta.engine import Selection
from seta.engine.ranks import Ranks
from seta.engine.rows import Row

_CHUNK = 1 << 14  # indices turned into Python integers at a time


class Plans(Protocol):
    """What a sampler reads: a `Pruner`, or something that stands before one."""

    @property
    def epoch(self) -> int | None:
        """The open epoch."""

    @property
    def history(self) -> list[Row]:
        """The rows of the epochs that are over."""

    @property
    def next_epoch(self) -> int:
        """The epoch that would begin if none is open."""

    @property
    def epochs(self) -> int:
        """Length of the run."""

    @property
    def ranks(self) -> Ranks | None:
        """The processes that train together."""

    @property
    def sharding(self) -> str:
        """How they hold the losses."""

    def begin_epoch(self, epoch: int | None = None) -> Selection:
        """Returns the plan of an epoch; None: of the open one, else of the next."""

    def share(self, done: int = 0) -> NDArray[np.unsignedinteger[Any]]:
        """Returns what this process trains of the open epoch's plan, or of the next."""

    def walked(self, given: int) -> None:
        """Notes that the share was walked to its end."""

    def share_size(self, kept: int) -> int:
        """Returns how many samples each rank trains of a plan of so many."""


class PrunedSampler(Sampler[int]):
    """Yields the indices of the open epoch's plan, in training order.

    It offers no `state_dict`: a stateful loader would take that for a position in the epoch, and
    then not skip forward.

    Args:
        plans: Usually the `Pruner`.
        share: With ranks, which it has to be said for: False yields the whole plan, the same on all
            of them, where a framework deals it out (Accelerate's `prepare`, `Trainer`); True yields
            what this rank trains, where nothing else does (plain DDP and FSDP, Lightning with
            `use_distributed_sampler=False`, Ray with `add_dist_sampler=False`).
        done: Returns how many samples at the head of the plan were trained before a resume, and are
            left out; for a loader that keeps its own position.

    Raises:
        ValueError: `share` is not said, or False for a sharded table.
    """

    def __init__(
        self, plans: Plans, *, share: bool | None = None, done: Callable[[], int] = lambda: 0
    ) -> None:
        if share is None and plans.ranks is not None:
            raise ValueError(
                f"share must be given, since {plans.ranks.size} ranks train together: True to "
                "yield this rank's part of each epoch; False to yield all of it, the same on each "
                "rank, where a framework deals it out (accelerator.prepare, Trainer)"
            )
        if not share and plans.ranks is not None and plans.sharding == "sharded":
            raise ValueError(
                "share must be True for a sharded table, got False: each rank trains on the "
                'samples whose losses it holds. Make the Pruner with sharding="replicated" where a '
                "framework deals out the samples"
            )
        self._plans, self._share, self._done = plans, bool(share), done

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one to read; asking for the open one changes nothing."""
        self._plans.begin_epoch(epoch)

    def __len__(self) -> int:
        """Number of samples that it yields; after the run, in the last epoch."""
        plans = self._plans
        if plans.epoch is None and plans.next_epoch >= plans.epochs and plans.history:
            kept = int(plans.history[-1]["kept"])
            return plans.share_size(kept) if self._share else kept
        return len(self._indices(0))

    def __iter__(self) -> Iterator[int]:
        """Iterates over the plan, from its beginning (or from where a run was resumed)."""
        indices = self._indices(self._done())
        starts = range(0, len(indices), _CHUNK)
        chunks = (indices[at : at + _CHUNK].tolist() for at in starts)
        return chain.from_iterable(chain(chunks, self._end(len(indices))))

    def _end(self, given: int) -> Iterator[list[int]]:
        """Comes after the last index, and has none; tells that the share was walked to its end."""
        if self._share:
            self._plans.walked(given)
        yield []

    def _indices(self, done: int) -> NDArray[np.unsignedinteger[Any]]:
        if self._share:
            return self._plans.share(done)
        return self._plans.begin_epoch().indices[done:]
