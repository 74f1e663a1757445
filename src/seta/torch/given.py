"""The batches that a pass has yielded, and which of them were answered.

A batch is answered by losses of some or all of its samples (`update`), or by `skip`. Losses without
indices belong to the one unanswered batch; with none or several, an error is raised. Cost: 8 bytes
per unanswered sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
_NONE: Indices = np.empty(0, np.int64)


class Given:
    """The batches that a pass gave out, numbered 0, 1, ...

    Args:
        epoch: The epoch that it goes over; None: none is open.
        late: Batches that were unanswered as the epoch before ended, which can be answered no more.

    Attributes:
        epoch: As given.
        late: As given.
        count: How many came up, those that failed to load included.
        failed: How many of them failed to load.
        answered: How many of them were answered.
        done: One more than the last one answered: where a resume goes on.
        whole: Whether the pass came to its end.
        rest: Samples not named of the batch that was answered in part last.
    """

    def __init__(self, epoch: int | None, late: Sequence[Indices] = ()) -> None:
        self.epoch, self.late = epoch, late
        self._to_come = {index for batch in late for index in batch.tolist()}  # and not again yet
        self._waiting: dict[int, Indices] = {}  # unanswered, by their numbers
        self.count = self.failed = self.answered = self.done = 0
        self.whole = False
        self.rest = _NONE

    @property
    def unanswered(self) -> int:
        """Batches that were given out and not answered."""
        return len(self._waiting)

    @property
    def waiting(self) -> list[Indices]:
        """The samples of each of them."""
        return list(self._waiting.values())

    @property
    def open(self) -> list[Indices]:
        """Samples that may still be named: `rest`, and the unanswered batches, if any was."""
        return [self.rest, *self.waiting] if self.answered else []

    def give(self, indices: Indices) -> None:
        """Notes a batch that is given out."""
        self._waiting[self.count] = indices
        self.count += 1
        if self._to_come:
            self._to_come.difference_update(indices.tolist())

    def is_late(self, samples: Indices) -> bool:
        """Returns whether samples are those of a late batch, and some did not come again yet."""
        if self._to_come.isdisjoint(samples.tolist()):
            return False
        return any(np.isin(samples, batch).all() for batch in self.late)

    def fail(self, count: int) -> None:
        """Notes batches that came up and could not be loaded."""
        self.count += count
        self.failed += count

    def match(self, count: int) -> Indices:
        """Returns the samples that `count` losses without indices belong to.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
            ValueError: The one that is has another size.
        """
        indices = self.only("update(losses)")
        if len(indices) != count:
            parts, rest = divmod(count, max(len(indices), 1))
            whole = len(indices) and parts and not rest
            tokens = (
                f"{count} = {len(indices)} x {parts}: reshape losses of tokens or pixels to "
                f"({len(indices)}, {parts}), with mask= if some do not count (or use "
                "seta.token_losses for one loss per sequence); average those of several views of "
                f"each sample, losses.view({parts}, {len(indices)}).mean(0) if the views follow "
                "one another (torch.cat); else "
            )
            raise ValueError(
                f"losses must have one entry for each sample of the batch, got {count} losses for "
                f"a batch of {len(indices)}: {tokens if whole else ''}"
                "compute them with reduction='none'. For losses of a part of a batch call "
                "update(losses, indices=...); if a collate function drops rows, give index_key="
            )
        return indices

    def skip(self) -> None:
        """Leaves the one unanswered batch out.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self.answer(self.only("skip()"))

    def answer(self, indices: Indices) -> None:
        """Notes that losses of some samples came: the batches that hold any of them are answered.

        Args:
            indices: Integers (B,); if they are the very array of a batch, it is that batch.
        """
        hit = self._holding(indices)
        if len(self.rest):
            self.rest = np.setdiff1d(self.rest, indices)
        for number in hit:
            batch = self._waiting.pop(number)
            if number >= self.done and len(indices) < len(batch):
                self.rest = np.setdiff1d(batch, indices)
        if hit:
            self.answered += len(hit)
            self.done = max(self.done, hit[-1] + 1)

    def _holding(self, indices: Indices) -> list[int]:
        """Returns the numbers of the batches that hold any of some samples."""
        for number, batch in reversed(self._waiting.items()):  # most often the latest
            if batch is indices or np.array_equal(batch, indices):
                return [number]
        return [n for n, batch in self._waiting.items() if np.isin(batch, indices).any()]

    def only(self, call: str) -> Indices:
        """Returns the samples of the one unanswered batch.

        Args:
            call: What needs it, for the message.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        if len(self._waiting) == 1:
            return next(iter(self._waiting.values()))
        if not self._waiting:
            raise RuntimeError(
                f"{call} needs an unanswered batch, and there is none: either no batch was taken "
                "yet in this epoch, or the last one was answered already (each is answered once, "
                "by update or by skip). To record losses at other times, construct the loader with "
                f"with_indices=True and {_NAMED}"
            )
        raise RuntimeError(
            f"{call} needs exactly one unanswered batch, and there are {len(self._waiting)}: to "
            "leave one out, call skip() before the next one is taken. If batches are taken ahead "
            f"of the training step, construct the loader with with_indices=True and {_NAMED}, each "
            "before the next pass begins"
        )


_NAMED = "call update(losses, indices=...)"
