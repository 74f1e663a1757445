"""The loss table: the latest loss of every sample, and the epoch in which it was last trained.

Six bytes per sample: a float32 loss, and an epoch number in uint16 (uint32 for runs of 65,535
epochs and more); four more where kept counts are wanted, and four for each column that a policy
keeps. Then the policy's score stands in place of the latest loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import parallel
from seta.engine.policy import Columns, KeepsScore, period

_PREFIX = "column."


class Recorded(NamedTuple):
    """What became of losses that were handed over.

    Attributes:
        trained: How many samples count as trained that did not before, in this epoch; one that
            comes twice at once counts twice, until `visits` counts them all.
        nonfinite: How many losses were not finite.
    """

    trained: int
    nonfinite: int


class Visits(NamedTuple):
    """What the samples' last visits add up to, at the end of an epoch.

    Attributes:
        trained: How many samples were trained in it.
        never: How many were in no epoch.
        longest_left_out: The most epochs that any sample has not been trained for.
    """

    trained: int
    never: int
    longest_left_out: int


class LossTable:
    """Latest losses, NaN where there are none yet.

    Args:
        n: Number of samples, >= 1.
        epochs: Length of the run, for the width of the epoch numbers.
        losses: float (n,), a warm start from an earlier run's table; non-finite = unseen.
        count_kept: Whether to count how often each sample was kept.
        scored: The policy, if it keeps a score.

    Attributes:
        values: float32 (n,), the losses; the scores, where there are some.
        last_trained: uint16 or uint32 (n,), 1 + the epoch; 0: never.
        kept_counts: uint32 (n,), or None.
        kept: float32 (n,) by name, the columns of the policy.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        losses: ArrayLike | None = None,
        *,
        count_kept: bool = False,
        scored: KeepsScore | None = None,
    ) -> None:
        self.values = np.full(n, np.nan, np.float32)
        self.last_trained = np.zeros(n, np.uint16 if epochs < 0xFFFF else np.uint32)
        self.kept_counts = np.zeros(n, np.uint32) if count_kept else None
        self._scored = scored
        self._every = 1 if scored is None else period(scored.every, epochs)
        names = () if scored is None else scored.columns
        self.kept = {name: np.full(n, np.nan, np.float32) for name in names}
        if losses is not None:
            self._warm_start(np.asarray(losses))

    def _warm_start(self, losses: NDArray[Any]) -> None:
        if losses.shape != self.values.shape or not np.issubdtype(losses.dtype, np.floating):
            raise ValueError(
                f"losses must be floats of shape ({len(self)},), one for each sample, "
                f"got {losses.dtype} of shape {losses.shape}"
            )
        with np.errstate(over="ignore"):
            self.values[:] = losses
        self.values[~np.isfinite(self.values)] = np.nan
        self.begin_columns(slice(None))

    def begin_columns(self, rows: slice) -> None:
        """Makes the columns of rows, if there are any, as if their losses had been the first."""
        if self._scored is None:
            return
        for column in self.kept.values():
            column[rows] = np.nan
        for block in parallel.blocks(range(*rows.indices(len(self)))):
            seen = block.start + np.flatnonzero(~np.isnan(self.values[block]))
            self._fold(self._scored, seen, self.values[seen])

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.values)

    def record(
        self, indices: NDArray[np.integer[Any]], losses: NDArray[Any], epoch: int
    ) -> Recorded:
        """Takes the losses of the given samples and marks them as trained.

        They overwrite the earlier ones, or go into the columns.

        Args:
            indices: Integers (B,) in 0..n-1. Of a sample that occurs twice the last loss counts.
            losses: Floats (B,). A non-finite one is left out; its sample still counts as trained.
            epoch: The epoch they were trained in.

        Raises:
            ValueError, IndexError: The arrays do not fit; nothing is recorded then.
        """
        self.check(indices, losses)
        with np.errstate(over="ignore"):
            values = losses.astype(np.float32)
        trained = int(np.count_nonzero(self.last_trained[indices] != epoch + 1))
        self.last_trained[indices] = epoch + 1
        finite = np.isfinite(values)
        if finite.all():
            self._take(indices, values)
            return Recorded(trained, 0)
        self._take(indices[finite], values[finite])
        return Recorded(trained, int(len(values) - np.count_nonzero(finite)))

    def _take(self, indices: NDArray[np.integer[Any]], losses: NDArray[np.float32]) -> None:
        if self._scored is None:
            self.values[indices] = losses
        else:
            self._fold(self._scored, indices, losses)

    def _fold(
        self,
        scored: KeepsScore,
        indices: NDArray[np.integer[Any]],
        losses: NDArray[np.float32],
    ) -> None:
        old: Columns = {name: column[indices] for name, column in self.kept.items()}
        for name, changed in scored.fold(old, losses).items():
            self.kept[name][indices] = changed

    def rescore(self, before: int, epoch: int) -> None:
        """Takes the scores anew, where there are some and it is time to.

        Args:
            before: The latest epoch that is over; -1: none.
            epoch: The one to begin.
        """
        scored = self._scored
        if scored is None or before // self._every == epoch // self._every:
            return
        for block in parallel.blocks(range(len(self))):
            scores = scored.score({name: column[block] for name, column in self.kept.items()})
            self.values[block] = np.where(np.isfinite(scores), scores, np.nan)

    def check(self, indices: NDArray[Any], losses: NDArray[Any]) -> None:
        """Raises what `record` would raise, without recording."""
        check_indices(indices, len(self))
        if losses.dtype.kind != "f":
            raise ValueError(f"losses must be floats, got {losses.dtype}")
        if losses.shape != indices.shape:
            raise ValueError(
                f"losses must have one entry for each of the {len(indices)} indices, "
                f"got shape {losses.shape}: one loss per sample (reduction='none')"
            )

    def left_out(self, epoch: int) -> NDArray[np.int64]:
        """Returns for each sample the epochs since it was last trained, at the end of `epoch`."""
        return epoch + 1 - self.last_trained.astype(np.int64)

    def visits(self, epoch: int) -> Visits:
        """Returns what the last visits add up to, at the end of `epoch`."""
        return visits_of([self.last_trained], epoch)

    def state_dict(self, *, copy: bool = True) -> dict[str, NDArray[Any] | None]:
        """Returns the columns: copies, or views, which change with them."""
        columns: dict[str, NDArray[Any] | None] = {
            "losses": self.values,
            "last_trained": self.last_trained,
            "kept_counts": self.kept_counts,
            **{_PREFIX + name: column for name, column in self.kept.items()},
        }
        if copy:
            return {k: None if v is None else v.copy() for k, v in columns.items()}
        return columns

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes over saved columns; of another length, what both have in common.

        In place, so that there is never a second table.
        """
        rows = min(len(self), len(saved["losses"]))
        self.take(slice(0, rows), saved, slice(0, rows))
        self.values[rows:] = np.nan
        self.last_trained[rows:] = 0
        if self.kept_counts is not None:
            self.kept_counts[rows:] = 0
        for column in self.kept.values():
            column[rows:] = np.nan

    def take(self, here: slice, saved: Mapping[str, Any], there: slice) -> None:
        """Takes over some rows of saved columns, in place.

        Columns that the state lacks, of another policy, begin with its losses.
        """
        self.values[here] = saved["losses"][there]
        self.last_trained[here] = saved["last_trained"][there]
        if self.kept_counts is not None:
            counts = saved["kept_counts"]
            self.kept_counts[here] = 0 if counts is None else counts[there]
        if all(_PREFIX + name in saved for name in self.kept):
            for name, column in self.kept.items():
                column[here] = saved[_PREFIX + name][there]
        else:
            self.begin_columns(here)


def visits_of(parts: Iterable[NDArray[Any]], epoch: int) -> Visits:
    """Returns what some last visits add up to.

    Args:
        parts: Unsigned integers of any shape, 1 + the epoch that a sample was last trained in.
        epoch: The one that ends.
    """
    trained, never, least = 0, 0, epoch + 1
    for part in parts:
        rows = max(1, parallel.BLOCK * len(part) // max(1, part.size))
        for block in parallel.blocks(range(len(part) if part.size else 0), rows):
            last = part[block]
            trained += int(np.count_nonzero(last == epoch + 1))
            lowest = int(last.min())
            least = min(least, lowest)
            never += last.size - int(np.count_nonzero(last)) if not lowest else 0
    return Visits(trained, never, epoch + 1 - least)


def check_indices(indices: NDArray[Any], n: int, *, name: str = "indices") -> None:
    """Checks that an array holds sample indices.

    Raises:
        ValueError: It is not a one-dimensional array of integers.
        IndexError: An index is outside 0..n-1.
    """
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise ValueError(
            f"{name} must be a one-dimensional array of integers, "
            f"got {indices.dtype} of shape {indices.shape}"
        )
    if not len(indices):
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n:
        raise IndexError(
            f"{name} must lie in 0..{n - 1} for a dataset of {n} samples, "
            f"got {low if low < 0 else high}"
        )
