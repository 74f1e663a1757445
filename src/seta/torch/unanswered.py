"""The batches that the loader gave out and that nobody has answered yet.

A batch is answered by its losses (`update`) or by `skip`. This is the whole rule by which losses
without indices find their samples: they belong to the one unanswered batch, or to none. Cost: 8
bytes per unanswered sample; a `break` or a new epoch forgets them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Unanswered:
    """The unanswered batches of a pass, each the indices of its samples, int64 (B,), oldest first.

    Attributes:
        given: Batches given out in this pass, answered or not.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[int, Indices]] = []  # each with its number in the pass
        self.given = 0

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def give(self, indices: Indices) -> None:
        """Notes a batch that was given out."""
        self._batches.append((self.given, indices))
        self.given += 1

    def clear(self) -> None:
        """Begins another pass; forgets all: their samples keep the losses that they had."""
        self._batches.clear()
        self.given = 0

    @property
    def done(self) -> int:
        """Batches of this pass before the oldest unanswered one, or all of them."""
        return self._batches[0][0] if self._batches else self.given

    def match(self, count: int) -> Indices:
        """Returns the samples that `count` losses without indices belong to.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
            ValueError: The one that is has another size.
        """
        indices = self._only("update(losses)")
        if len(indices) != count:
            raise ValueError(
                f"losses must have one entry for each sample of the batch, got {count} losses for "
                f"a batch of {len(indices)}: compute them with reduction='none'; losses for a part "
                "of a batch go with their samples, as update(losses, indices=...)"
            )
        return indices

    def skip(self) -> None:
        """Drops the one unanswered batch.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self._only("skip()")
        self._batches.clear()

    def answer(self, indices: Indices) -> None:
        """Takes samples off the batches that they were given out in; parts of batches remain."""
        for at, (_, batch) in enumerate(self._batches):
            if batch is indices or np.array_equal(batch, indices):
                del self._batches[at]
                return
        rest = [(number, batch[~np.isin(batch, indices)]) for number, batch in self._batches]
        self._batches = [(number, batch) for number, batch in rest if len(batch)]

    def _only(self, call: str) -> Indices:
        if len(self._batches) == 1:
            return self._batches[0][1]
        if not self._batches:
            raise RuntimeError(
                f"{call} needs an unanswered batch, and there is none: either no batch was taken "
                "yet in this epoch, or the last one was answered already (each is answered once, "
                "by update or by skip). Losses at any other time go with their samples: construct "
                f"the loader with with_indices=True and {_NAMED}"
            )
        raise RuntimeError(
            f"{call} needs exactly one unanswered batch, and there are {len(self._batches)}: a "
            "batch that is left out on purpose is dropped by skip() before the next one is taken; "
            "where something takes batches ahead of the training step, construct the loader with "
            f"with_indices=True and {_NAMED}"
        )


_NAMED = "call update(losses, indices=...)"
