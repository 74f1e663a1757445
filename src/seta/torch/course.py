"""Where a run stands: the open epoch, the live iterator, the unanswered batches.

It stands between the loader and the `Pruner`, and hands on the pruner's plans to the sampler, so
that an epoch begun through either is the same step: pending losses are recorded first, batches of
the epoch before are forgotten, and its iterators end. It moves in `begin_epoch(e)`, `start` and
`end_epoch` only. No cost of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from seta.engine import Pruner, Selection
from seta.engine.ranks import Ranks
from seta.engine.rows import Row
from seta.torch.arguments import sample_indices
from seta.torch.buffer import LossBuffer
from seta.torch.dataset import indices_of
from seta.torch.losses import per_sample, weighted_mean
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

    @property
    def shown_epoch(self) -> int:
        """The open epoch; between two the next one, after the run the last one."""
        return min(self.next_epoch, self.epochs - 1) if self.epoch is None else self.epoch

    def total_batches(self, batches_of: Callable[[int], int], what: str = "total_steps") -> int:
        """Returns the batches of all epochs, each of which has `batches_of(its samples)`.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return sum(self.batches_of_epochs(batches_of, what))

    def batches_of_epochs(self, batches_of: Callable[[int], int], what: str) -> list[int]:
        """Returns the batches of each epoch; see `total_batches`."""
        if self.pruner.lengths is None:
            raise RuntimeError(
                f"{what} is known under a budget only, since epochs vary in length without: give "
                "budget=, or drive the schedule by seta.ProgressSchedule"
            )
        return [batches_of(length) for length in self.pruner.lengths]

    def close_epoch(self) -> Row:
        """Ends the open epoch, if one is open, and returns the row of the last that ended.

        Raises:
            RuntimeError: No epoch has begun; or the ranks do not agree.
        """
        if self.epoch is None and self.history:
            return dict(self.history[-1])
        return self.end_epoch()

    def answer(
        self, losses: Tensor, indices: ArrayLike | Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Indices]:
        """Takes the losses of a batch.

        Args:
            losses: Floats (B,), or (B, ...), reduced to one per sample by the mean.
            indices: Integers (B,), their samples; None: those of the one unanswered batch.
            mask: The shape of `losses`: which of its elements count.

        Returns:
            sum(weight x loss) / B, to call `backward()` on; and the samples.

        Raises:
            RuntimeError: It is not known which batch the losses belong to.
            TypeError, ValueError, IndexError: The losses or the indices do not fit.
        """
        losses = per_sample(losses, mask)
        if indices is None:
            samples = self.unanswered.match(len(losses))
        elif self.epoch is None:
            raise RuntimeError("update needs an open epoch, and there is none: take a batch first")
        else:
            samples = sample_indices(indices, len(losses), self.pruner.n)
        weights = self.pruner.weights_of(samples)
        self.buffer.add(samples, losses)
        self.unanswered.answer(samples)
        return weighted_mean(losses, weights), samples

    def trained_of_plan(self, global_batch: int, *, in_order: bool, gather: bool) -> int:
        """Returns how many samples of the open epoch, over all ranks, are trained: the first ones.

        Args:
            global_batch: Samples of a batch, over all ranks.
            in_order: Whether batches arrive as the plan has them.
            gather: Take the least of all ranks, which then all call this.

        Raises:
            RuntimeError: Batches arrive out of order, and the epoch is not over.
        """
        if self.epoch is None:
            return 0
        answered = self.unanswered.done
        if answered and not in_order:
            raise RuntimeError(
                "in_order=False gives batches out in any order, so that no position tells what was "
                "trained: save between two epochs, or leave in_order out"
            )
        done = self.resumed + answered * global_batch
        if self.ranks is None or not gather:
            return done
        what = f"state_dict() in epoch {self.epoch}"
        return min(int(other[0]) for other in self.ranks.gather(np.array([done]), what))

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
