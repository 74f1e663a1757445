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
from typing import Protocol

from torch.utils.data import Sampler

from seta.engine import Selection
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

    def begin_epoch(self, epoch: int | None = None) -> Selection:
        """Returns the plan of an epoch; None: of the open one, else of the next."""


class PrunedSampler(Sampler[int]):
    """Yields the indices of the open epoch's plan, in training order.

    It offers no `state_dict`: a stateful loader would take that for a position in the epoch, and
    then not skip forward.

    Args:
        plans: Usually the `Pruner`.
        done: Returns how many samples at the head of the plan were trained before a resume, and are
            left out; for a loader that keeps its own position.
    """

    def __init__(self, plans: Plans, done: Callable[[], int] = lambda: 0) -> None:
        self._plans, self._done = plans, done

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one to read; asking for the open one changes nothing."""
        self._plans.begin_epoch(epoch)

    def __len__(self) -> int:
        """Number of samples in the plan; after the run, in the last one."""
        plans = self._plans
        if plans.epoch is None and plans.next_epoch >= plans.epochs and plans.history:
            return int(plans.history[-1]["kept"])
        return len(plans.begin_epoch())

    def __iter__(self) -> Iterator[int]:
        """Iterates over the plan, from its beginning (or from where a run was resumed)."""
        indices = self._plans.begin_epoch().indices[self._done() :]
        starts = range(0, len(indices), _CHUNK)
        return chain.from_iterable(indices[at : at + _CHUNK].tolist() for at in starts)
