"""The loss table: the latest loss of every sample, and the epoch in which it was last trained.

Six bytes per sample: a float32 loss, and an epoch number in uint16 (uint32 for runs of 65,535
epochs and more); four more with kept counts, and four for each column of a policy. If the policy
keeps a score, the score is stored in place of the latest loss. A tracked run has further columns
(`tracked`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import parallel
from seta.engine.curves.policy import Columns, KeepsScore, counted_columns, period
from seta.engine.mapped import copy_rows
from seta.engine.table import tracked

Part = tuple[NDArray[Any], NDArray[Any]]
RowsOf = Callable[[NDArray[Any]], NDArray[Any]]


class Recorded(NamedTuple):
    """The result of recording losses.

    Attributes:
        trained: How many samples count as trained that did not before, in this epoch; one that
            comes twice at once counts twice, until `visits` counts them all.
        nonfinite: How many losses were not finite.
        apply: Writes them; again, it changes nothing more.
    """

    trained: int
    nonfinite: int
    apply: Callable[[], None]


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


class LossColumns:
    """Latest losses, NaN where there are none yet.

    Args:
        n: Number of samples, >= 1.
        epochs: Length of the run, for the width of the epoch numbers.
        losses: float (n,), a warm start from an earlier run's table; non-finite = unseen.
        count_kept: Whether to count how often each sample was kept.
        scored: The policy, if it keeps a score.
        track: Whether visits, mean and spread of each sample's losses are kept.

    Attributes:
        values: float32 (n,), the losses; the scores, where there are some.
        last_trained: uint16 or uint32 (n,), 1 + the epoch; 0: never.
        kept_counts: uint32 (n,), or None.
        memory: float32 (n,) by name, the columns of the policy, and those of a tracked run.
        own: Names of those of the policy.
        wanted: Names of those whose histograms it looks at.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        losses: ArrayLike | None = None,
        *,
        count_kept: bool = False,
        scored: KeepsScore | None = None,
        track: bool = False,
    ) -> None:
        self.values = np.full(n, np.nan, np.float32)
        self.last_trained = np.zeros(n, np.uint16 if epochs < 0xFFFF else np.uint32)
        self.kept_counts = np.zeros(n, np.uint32) if count_kept else None
        self._scored = scored
        self._every = 1 if scored is None else period(scored.every, epochs)
        self.own: tuple[str, ...] = () if scored is None else tuple(scored.columns)
        self._tracked = tracked.names(scored=scored is not None) if track else ()
        names = (*self.own, *self._tracked)
        self.memory = {name: np.full(n, _before(name), np.float32) for name in names}
        self.wanted = counted_columns(scored)
        self._before: tuple[NDArray[Any], dict[str, NDArray[Any]]] | None = None
        if losses is not None:
            self._warm_start(np.asarray(losses))

    def _warm_start(self, losses: NDArray[Any]) -> None:
        if losses.shape != self.values.shape or not np.issubdtype(losses.dtype, np.floating):
            raise ValueError(
                f"losses must be floats of shape ({len(self)},), one for each sample, "
                f"got {losses.dtype} of shape {losses.shape}: give those of the same dataset, with "
                "NaN for samples without a loss"
            )
        with np.errstate(over="ignore"):
            self.values[:] = losses
        self.values[~np.isfinite(self.values)] = np.nan
        if tracked.LATEST in self.memory:
            self.memory[tracked.LATEST][:] = self.values
        self.begin_columns(slice(None))

    def begin_columns(self, rows: slice) -> None:
        """Makes the policy's columns of rows, if any, as if their losses had been the first."""
        if self._scored is None:
            return
        for name in self.own:
            self.memory[name][rows] = np.nan
        for block in parallel.blocks(range(*rows.indices(len(self)))):
            seen = block.start + np.flatnonzero(~np.isnan(self.values[block]))
            for column, values in self._folded(seen, self.values[seen]):
                column[seen] = values

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.values)

    def recording(
        self, indices: NDArray[np.integer[Any]], losses: NDArray[Any], epoch: int
    ) -> Recorded:
        """Returns what takes the losses of the given samples and marks them as trained.

        They overwrite the earlier ones, or go into the columns. Nothing is written yet.

        Args:
            indices: Integers (B,) in 0..n-1. Of a sample that occurs twice the last loss counts.
            losses: Floats (B,). A non-finite one is left out; its sample still counts as trained.
            epoch: The epoch they were trained in.

        Raises:
            ValueError, IndexError: The arrays do not fit.
        """
        self.check(indices, losses)
        with np.errstate(over="ignore"):
            values = losses.astype(np.float32)
        trained = int(np.count_nonzero(self.last_trained[indices] != epoch + 1))
        finite = np.isfinite(values)
        nonfinite = int(len(values) - np.count_nonzero(finite))
        at = indices
        if nonfinite:
            at, values = indices[finite], values[finite]
        changed = self._changed(at, values)
        return Recorded(trained, nonfinite, partial(self._write, indices, epoch + 1, at, changed))

    def record(
        self, indices: NDArray[np.integer[Any]], losses: NDArray[Any], epoch: int
    ) -> Recorded:
        """Takes losses at once; see `recording`."""
        recorded = self.recording(indices, losses, epoch)
        recorded.apply()
        return recorded

    def _changed(
        self, indices: NDArray[np.integer[Any]], losses: NDArray[np.float32]
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Returns the columns that losses change, each with its new values (B,)."""
        changed = [(self.values, losses)] if self._scored is None else []
        changed += self._folded(indices, losses)
        if self._tracked:
            old = {name: self.memory[name].take(indices) for name in self._tracked}
            new = tracked.fold(old, losses)
            changed += [(self.memory[name], values) for name, values in new.items()]
        return changed

    def _folded(
        self, indices: NDArray[np.integer[Any]], losses: NDArray[np.float32]
    ) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Returns the columns of the policy, each with what it makes of losses."""
        if self._scored is None:
            return []
        old: Columns = {name: self.memory[name][indices] for name in self.own}
        new = self._scored.fold(old, losses)
        return [(self.memory[name], values) for name, values in new.items()]

    def _write(
        self,
        indices: NDArray[np.integer[Any]],
        trained: int,
        at: NDArray[np.integer[Any]],
        changed: list[tuple[NDArray[Any], NDArray[Any]]],
    ) -> None:
        self.last_trained[indices] = trained
        for column, values in changed:
            column[at] = values

    def folding(self, parts: Iterable[Part], rows_of: RowsOf) -> Iterable[Part]:
        """Returns the records of an exchange, to be recorded once and no more.

        An exchange that was interrupted is made again. That overwrites losses by the same ones, but
        what a policy folds them into would take them twice. So there all records are awaited, and
        what was kept of their samples is noted, to go back to it until the exchange is `settled`.

        Args:
            parts: Indices and losses.
            rows_of: Returns the rows of samples that are here.
        """
        if not self.memory:
            return parts
        self.go_back()
        parts = list(parts)
        if parts:
            rows = np.concatenate([rows_of(indices) for indices, _ in parts])
            self._before = rows, {name: column[rows] for name, column in self.memory.items()}
        return parts

    def go_back(self) -> None:
        """Undoes what an interrupted exchange has folded."""
        if self._before is not None:
            rows, before = self._before
            for name, values in before.items():
                self.memory[name][rows] = values
            self._before = None

    def settled(self) -> None:
        """Keeps what an exchange has folded."""
        self._before = None

    def due(self, before: int, epoch: int) -> bool:
        """Returns whether scores are updated from the end of one epoch to the start of another."""
        return self._scored is not None and before // self._every != epoch // self._every

    def rescore(self, before: int, epoch: int) -> None:
        """Updates the scores, if there are some and they are due.

        Args:
            before: The latest epoch that is over; -1: none.
            epoch: The one to begin.
        """
        scored = self._scored
        if scored is None or not self.due(before, epoch):
            return
        for block in parallel.blocks(range(len(self))):
            columns = {name: self.memory[name][block] for name in self.own}
            self.values[block] = self._scores(scored, columns)

    def _scores(self, scored: KeepsScore, columns: Columns) -> NDArray[np.float32]:
        """Returns the scores that a policy makes of its columns: float32 (B,), NaN = unseen."""
        with np.errstate(over="ignore"):
            scores = np.array(scored.score({name: columns[name] for name in self.own}), np.float32)
        scores[~np.isfinite(scores)] = np.nan
        return scores

    def to_count(self, saved: Mapping[str, Any] | None = None) -> dict[str, NDArray[np.float32]]:
        """Returns the columns whose histograms the policy looks at, NaN = unseen or not finite.

        Args:
            saved: A saved table, whose columns are meant; None: this one's. Columns that it lacks
                begin with its losses, as in `take`.
        """
        if not self.wanted:
            return {}
        columns = self.memory if saved is None else self._columns_of(saved)
        return {name: _without_infinite(columns[name]) for name in self.wanted}

    def _columns_of(self, saved: Mapping[str, Any]) -> Columns:
        """Returns the columns of the policy that a saved table has once it is loaded."""
        columns: Columns = saved["columns"]
        if all(name in columns for name in self.own):
            return columns
        losses = self._losses_of(saved)
        return LossColumns(len(losses), 1, losses, scored=self._scored).memory

    def check(self, indices: NDArray[Any], losses: NDArray[Any]) -> None:
        """Raises what `record` would raise, without recording."""
        check_indices(indices, len(self))
        if losses.dtype.kind != "f":
            raise ValueError(
                f"losses must be floats, got {losses.dtype}: one loss per sample, of numpy's own "
                "floats (losses.astype('float32'))"
            )
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

    def counted(self, mask: NDArray[np.uint8] | None) -> NDArray[np.uint32] | None:
        """Returns the kept counts, with one more for the rows of a mask: a copy.

        Args:
            mask: uint8 (ceil(n / 8),); None: of no epoch.

        Returns:
            uint32 (n,); None where kept counts are not taken.
        """
        if self.kept_counts is None or mask is None:
            return None if self.kept_counts is None else self.kept_counts.copy()
        counts = np.unpackbits(mask, count=len(self)).astype(np.uint32)
        counts += self.kept_counts
        return counts

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Returns the columns: copies, or views, which change with them."""
        columns: dict[str, NDArray[Any] | None] = {
            "losses": self.values,
            "last_trained": self.last_trained,
            "kept_counts": self.kept_counts,
        }
        memory, before = dict(self.memory), self._before
        if copy:
            columns = {k: None if v is None else v.copy() for k, v in columns.items()}
        if copy or before is not None:
            memory = {name: column.copy() for name, column in memory.items()}
        if before is not None:  # in an exchange, which will be made again
            for name, values in before[1].items():
                memory[name][before[0]] = values
        return {**columns, "columns": memory}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Takes over saved columns; of another length, what both have in common.

        In place, so that there is never a second table. Of another policy, scores are updated.
        """
        rows = min(len(self), len(saved["losses"]))
        self.take(slice(0, rows), saved, slice(0, rows))
        if is_of_another(saved):
            self.rescore(-1, 0)
        self.values[rows:] = np.nan
        self.last_trained[rows:] = 0
        if self.kept_counts is not None:
            self.kept_counts[rows:] = 0
        for name, column in self.memory.items():
            column[rows:] = _before(name)

    def values_of(self, saved: Mapping[str, Any]) -> Any:
        """Returns the values that a saved table has once it is loaded: float32 (n,)."""
        if self._scored is None or not is_of_another(saved):
            return self._losses_of(saved)
        return self._scores(self._scored, self._columns_of(saved))

    def _losses_of(self, saved: Mapping[str, Any]) -> Any:
        """Returns what `take` makes the values, float32 (n,): the scores of the same policy.

        Scores of another one are no losses: the latest losses take their place where the run was
        tracked, so that they are known. Where `saved` has `unlike`, its losses are no losses here,
        and all are unseen.
        """
        losses, columns = saved["losses"], saved["columns"]
        if "unlike" in saved:
            return np.full(len(losses), np.nan, np.float32)
        return columns.get(tracked.LATEST, losses) if self._are_of_another(columns) else losses

    def lacks_losses(self, saved: Mapping[str, Any]) -> bool:
        """Returns whether only the scores of another policy can take the place of losses."""
        columns = saved["columns"]
        return (
            _has_scores(columns) and self._are_of_another(columns) and tracked.LATEST not in columns
        )

    def _are_of_another(self, columns: Mapping[str, Any]) -> bool:
        return self._scored is None or any(name not in columns for name in self.own)

    def take(self, here: slice, saved: Mapping[str, Any], there: slice) -> None:
        """Takes over some rows of saved columns, in place.

        Columns that the state lacks, of another policy, begin with its losses.
        """
        self._before = None
        copy_rows(self.values[here], self._losses_of(saved)[there])
        copy_rows(self.last_trained[here], saved["last_trained"][there])
        counts = saved["kept_counts"]
        if self.kept_counts is not None and counts is not None:
            copy_rows(self.kept_counts[here], counts[there])
        elif self.kept_counts is not None:
            self.kept_counts[here] = 0
        columns = saved["columns"]
        own = all(name in columns for name in self.own)
        for name in (*(self.own if own else ()), *self._tracked):
            if name in columns:
                copy_rows(self.memory[name][here], columns[name][there])
            elif name == tracked.LATEST and not _has_scores(columns):
                copy_rows(self.memory[name][here], self._losses_of(saved)[there])
            else:  # tracked from now on
                self.memory[name][here] = _before(name)
        if not own:
            self.begin_columns(here)


def is_of_another(saved: Mapping[str, Any]) -> bool:
    """Returns whether another policy saved a table: its scores are not those of this one."""
    return bool(saved.get("another", False))


def _has_scores(columns: Mapping[str, Any]) -> bool:
    """Returns whether saved columns are of a policy that keeps a score in place of losses."""
    return any(name not in tracked.BEFORE for name in columns)


def _before(name: str) -> float:
    """Returns what a column holds of a sample without losses."""
    return tracked.BEFORE.get(name, np.nan)


def _without_infinite(column: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a column with NaN for what is infinite: itself, where nothing is."""
    if not any(np.isinf(column[block]).any() for block in parallel.blocks(range(len(column)))):
        return column
    return np.where(np.isinf(column), np.float32(np.nan), column)


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
            f"got {indices.dtype} of shape {indices.shape}: give the positions of samples"
        )
    if not len(indices):
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n:
        raise IndexError(
            f"{name} must lie in 0..{n - 1} for a dataset of {n} samples, "
            f"got {low if low < 0 else high}: count from 0"
        )
