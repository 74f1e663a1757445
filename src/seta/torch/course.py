"""Where a run stands: the open epoch, the live iterator, the unanswered batches.

It stands between the loader and the `Pruner`, and hands on the pruner's plans to the sampler, so
that an epoch begun through either is the same step: pending losses are recorded first, batches of
the epoch before are forgotten, and its iterators end. It moves in `begin_epoch(e)`, `start` and
`end_epoch` only. No cost of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seta.engine import Pruner, Selection
from seta.engine.ranks import Ranks
from seta.engine.rows import Row
from seta.torch.buffer import LossBuffer
from seta.torch.dataset import indices_of
from seta.torch.unanswered import Indices, Unanswered


class Course:
    """One loader's way through the epochs of its pruner.

    Attributes:
        pruner: The pruner; it may be moved by others as well.
        buffer: Losses not yet recorded.
        unanswered: Batches not yet answered.
        turn: Changes with every new iteration; an iterator of another turn is stale.
        resumed: Samples of the open epoch, over all ranks, that were trained before a resume.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner = pruner
        self.buffer = LossBuffer(pruner.record)
        self.unanswered = Unanswered()
        self.turn = 0
        self.resumed = 0
        self._taken_in: int | None = None  # epoch of the last batch, if set_epoch came not since

    @property
    def epoch(self) -> int | None:
        """The open epoch."""
        return self.pruner.epoch

    @property
    def next_epoch(self) -> int:
        """The epoch that would begin if none is open."""
        return self.pruner.next_epoch

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return self.pruner.epochs

    @property
    def history(self) -> list[Row]:
        """The rows of the epochs that are over."""
        return self.pruner.history

    def begin_epoch(self, epoch: int | None = None) -> Selection:
        """Returns the plan of an epoch, ending another one that is open.

        Args:
            epoch: The epoch, which the next iteration is then to walk through; None: the open one,
                else the next.
        """
        before = self.pruner.epoch
        if epoch is not None and epoch != before:
            self.buffer.drain()
        selection = self.pruner.begin_epoch(epoch)
        if self.pruner.epoch != before:
            self._turn_over()
            self.resumed = 0
        if epoch is not None:
            self._taken_in = None
        return selection

    @property
    def ranks(self) -> Ranks | None:
        """The processes that train together."""
        return self.pruner.ranks

    @property
    def sharding(self) -> str:
        """How they hold the losses."""
        return self.pruner.sharding

    def share(self, done: int = 0) -> NDArray[np.unsignedinteger[Any]]:
        """Returns what this process trains of the open epoch's plan, or of the next."""
        self.begin_epoch()
        return self.pruner.share(done)

    def walked(self, given: int) -> None:
        """The loader's own batches: nothing stands between them and the training loop."""

    def share_size(self, kept: int) -> int:
        """Returns how many samples each rank trains of an epoch that keeps so many."""
        return self.pruner.share_size(kept)

    def end_epoch(self) -> Row:
        """Ends the open epoch, the one exchange between ranks, and returns its row."""
        self.buffer.drain()
        row = self.pruner.end_epoch()
        self._turn_over()
        self.resumed = 0
        return row

    def start(self) -> None:
        """Begins an iteration: of the open epoch where no batch was taken yet, else of the next.

        Raises:
            RuntimeError: All epochs are over.
        """
        if self.epoch is not None and self.epoch == self._taken_in:
            self.end_epoch()
        if self.epoch is None and self.next_epoch >= self.epochs:
            raise RuntimeError(
                f"all {self.epochs} epochs of this run are over (epochs={self.epochs}): construct "
                "the loader with more epochs, or iterate over the dataset with a plain DataLoader"
            )
        self.begin_epoch()
        self._turn_over()

    def finish(self) -> None:
        """Ends the epoch of an exhausted iterator, if no loss of it can come any more."""
        if not self.unanswered:
            self.end_epoch()

    def take(self, indices: Indices, epoch: int | None) -> None:
        """Notes a batch of the open epoch that is given out."""
        self.unanswered.give(indices)
        self._taken_in = epoch

    def restart(self, resumed: int) -> None:
        """Forgets what belongs to a run that was replaced by a loaded one.

        Args:
            resumed: Samples of its open epoch that are trained already.
        """
        self.buffer.clear()
        self._turn_over()
        self.resumed = resumed

    def _turn_over(self) -> None:
        self.unanswered.clear()
        self.turn += 1
        self._taken_in = None


class Pass:
    """An iterator over one epoch, which knows when it is no longer the one to ask."""

    __slots__ = ("_batches", "_course", "_epoch", "_over", "_turn", "_with_indices")

    def __init__(self, course: Course, batches: Iterator[Any], with_indices: bool) -> None:
        self._course = course
        self._batches = batches
        self._with_indices = with_indices
        self._turn = course.turn
        self._epoch = course.epoch
        self._over = False

    def __iter__(self) -> Pass:
        """Returns itself."""
        return self

    def __next__(self) -> Any:
        """Returns the next batch, as the user's own loader would.

        Raises:
            RuntimeError: A newer iteration, `set_epoch` or `end_epoch` came since this one began.
        """
        if self._over:
            raise StopIteration
        course = self._course
        if course.turn != self._turn or course.pruner.epoch != self._epoch:
            self._batches = iter(())
            raise RuntimeError(
                f"this iterator belongs to a pass over epoch {self._epoch} that has ended: a newer "
                "iteration, set_epoch or end_epoch came since. One loader serves one pass at a time"
            )
        try:
            packed, batch = next(self._batches)
        except StopIteration:
            self._over = True
            self._batches = iter(())
            course.finish()
            raise
        indices = indices_of(packed)
        course.take(indices, self._epoch)
        return (torch.from_numpy(indices.copy()), batch) if self._with_indices else batch
