"""The sharded loss table: each process holds the losses of its own shards, and trains on them.

For datasets with too many losses for each process. At the end of an epoch, the processes exchange
the range of the losses and then their histogram, at most 1 MB (2 MB with `always_keep`) for any
number of samples; the same for each column that the policy counts; and losses that were recorded
for samples of other processes, which loaders never cause. The start of an epoch needs no
communication: the curve follows from the histogram, and the number of samples that each shard draws
follows from the curve. So every epoch has an exact length, with or without a budget.

Memory: 6 bytes per sample held. A window is kept only almost completely (see `draw/shards.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import (
    Binning,
    LossHistogram,
    codes_of,
    histograms_of,
    loss_range,
)
from seta.engine.curves.policy import KeepsScore
from seta.engine.draw.choose import Choice, choose_shards
from seta.engine.draw.order import Order
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.draw.shards import count_shards
from seta.engine.mapped import let_go
from seta.engine.steps import Steps
from seta.engine.table import tracked
from seta.engine.table.columns import (
    LossColumns,
    Recorded,
    Visits,
    check_indices,
    is_of_another,
    visits_of,
)
from seta.engine.table.exchange import check_in, digest_of, refuse_idle, rounds
from seta.engine.table.log import RecordLog
from seta.engine.table.ranks import Ranks
from seta.engine.table.resharding import Resharding
from seta.engine.table.shared import Shared
from seta.engine.table.table import Exchanged, Reopened, State

logger = logging.getLogger(__name__)


class SlotOrder:
    """The training order of a process's part.

    Args:
        rows: The order of the rows of its table.
        partition: Which sample is where.
        first: The slot of the first row.
    """

    def __init__(self, rows: Order, partition: Partition, first: int) -> None:
        self._rows, self._partition, self._first = rows, partition, first
        self._dtype = np.uint32 if partition.n < 2**32 else np.uint64

    def __len__(self) -> int:
        """Number of positions."""
        return len(self._rows)

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.unsignedinteger[Any]]:
        """Returns the samples at positions."""
        slots = self._rows.at(positions).astype(np.int64) + self._first
        return self._partition.index_of(slots).astype(self._dtype)


class ShardedTable:
    """Loss table with the losses of this process's shards.

    Args:
        n: Number of samples, of all processes.
        epochs: Length of the run.
        losses: float (n,), a warm start with the losses of all samples, NaN = unseen.
        always_keep: Sorted indices of samples that are always chosen.
        count_kept: Whether to count how often each sample was kept.
        seed: Of the run.
        threads: Threads to use.
        ranks: The processes; None: this one alone, which holds all shards.
        scored: The policy, if it keeps a score.
        track: Whether the run is tracked.

    Raises:
        ValueError: Several processes train one share together, or there are more than shards.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        losses: ArrayLike | None = None,
        *,
        always_keep: NDArray[np.int64] | None,
        count_kept: bool,
        seed: int,
        threads: int,
        ranks: Ranks | None,
        scored: KeepsScore | None = None,
        track: bool = False,
    ) -> None:
        self._rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
        if ranks is not None and ranks.processes != size:
            raise ValueError(
                f'sharding="sharded" needs one process for each share, got {ranks.processes} '
                f'processes for {size} shares: use sharding="replicated", which keeps the '
                "tables of processes that train the same samples equal"
            )
        self._partition = Partition(n, shards_of(n))
        self._owned = [self._partition.owned(rank, size) for rank in range(size)]
        self._shards = self._owned[self._rank]
        self._slots = self._partition.slots(self._shards)
        self._seed, self._threads, self._ranks = seed, threads, ranks
        self._always_keep = always_keep
        self._always = self._slots_of_always_keep()
        self.columns = LossColumns(
            len(self._slots), epochs, count_kept=count_kept, scored=scored, track=track
        )
        self._log = RecordLog(n)  # of samples that other processes hold
        self._since = (0, 0)  # trained and not finite since the last exchange, over all samples
        self._resumed = False  # in the open epoch, of which others may have had more to train
        # An epoch, and what each shard has of it, where that was dealt out anew to other processes.
        self._dealt: tuple[int, NDArray[np.int64]] | None = None
        always = 0 if always_keep is None else len(always_keep)
        self._shared = Shared.unseen(n, always, self.columns.wanted)
        if losses is not None:
            self._warm_start(LossColumns(n, epochs, losses, scored=scored))
        self._warn_of_imbalance()

    def _slots_of_always_keep(self) -> NDArray[np.int64] | None:
        if self._always_keep is None:
            return None
        return np.sort(self._partition.slot_of(self._always_keep))

    def _warm_start(self, whole: LossColumns) -> None:
        """Takes its own samples out of the columns of all."""
        given = whole.values.copy() if tracked.LATEST in self.columns.memory else None
        whole.rescore(-1, 0)
        values, n = whole.values, len(whole)
        histogram = replace(
            LossHistogram.from_losses(values, threads=self._threads),
            columns=histograms_of(whole.to_count(), self._threads),
        )
        kept_always = self._shared.kept_always
        if self._always_keep is not None:
            kept_always = LossHistogram.from_losses(
                values[self._always_keep], binning=histogram.binning, threads=self._threads
            )
        self._shared = Shared(histogram, kept_always)
        for block in parallel.blocks(range(len(self._slots))):
            index = self._partition.index_of(np.arange(block.start, block.stop) + self._slots.start)
            here, samples = index < n, index[index < n]
            self.columns.values[block][here] = values[samples]
            for name in self.columns.own:
                self.columns.memory[name][block][here] = whole.memory[name][samples]
            if given is not None:
                self.columns.memory[tracked.LATEST][block][here] = given[samples]

    def _warn_of_imbalance(self) -> None:
        most, least = (choose(map(len, self._owned)) for choose in (max, min))
        if most > 1.02 * least:
            logger.warning(
                "%d ranks share %d shards: some own %d and some %d, and the rank with the fewest "
                "limits every epoch, which is %.0f %% shorter for the others. Use a number of "
                'ranks that divides %d, or sharding="replicated", to lose nothing',
                len(self._owned), self._partition.shards, most, least,
                100 * (1 - least / most), self._partition.shards,
            )  # fmt: skip

    @property
    def held(self) -> NDArray[np.int64]:
        """The samples of the columns' rows, n or more where a row is empty."""
        return self._partition.index_of(np.arange(self._slots.start, self._slots.stop))

    def rescore(self, before: int, epoch: int) -> None:
        """Does nothing: scores are updated in the exchange, before they are counted.

        Raises:
            ValueError: They were due since, in an epoch that was left out.
        """
        due = self.columns.due
        if before >= 0 and due(before, epoch) and not due(before, before + 1):
            raise ValueError(
                f"epoch {epoch} needs the scores of the losses up to epoch {before}, and a sharded "
                "table updates scores only at the end of the epoch before a multiple of the "
                "policy's `every`: do not leave out that epoch, give every=1, or use "
                'sharding="replicated"'
            )

    def histogram(self) -> LossHistogram:
        """Returns the histogram of all samples, of the last exchange."""
        return self._shared.histogram

    def choose(
        self,
        histogram: LossHistogram,
        curve: KeepCurve,
        *,
        count: int | None,
        sizes: Steps,
        epoch: int,
    ) -> Choice:
        """Chooses this process's part of an epoch's samples."""
        return choose_shards(
            self.columns.values,
            self._partition,
            self._shards,
            *self._shared,
            curve,
            count=count,
            sizes=sizes,
            always_keep=self._always,
            seed=self._seed,
            epoch=epoch,
            threads=self._threads,
        )

    def order(self, mask: NDArray[np.uint8], epoch: int) -> SlotOrder:
        """Returns the training order of this process's samples."""
        rows = Order(mask, len(self._slots), seed=self._seed, epoch=epoch)
        return SlotOrder(rows, self._partition, self._slots.start)

    def forget_epoch(self) -> None:
        """Forgets how the open epoch was dealt."""
        self._dealt, self._resumed = None, False

    def share_size(self, kept: int) -> int:
        """Returns the least that the shards of any process draw."""
        return self._least(self._partition.counts(kept))

    def _least(self, counts: NDArray[np.int64]) -> int:
        return min(int(counts[shards.start : shards.stop].sum()) for shards in self._owned)

    def _counts(self, epoch: int, kept: int) -> NDArray[np.int64]:
        """Returns what each shard has of the open epoch: int64 (shards,)."""
        if self._dealt is not None and self._dealt[0] == epoch:
            return self._dealt[1]
        return self._partition.counts(kept)

    def share(self, epoch: int, kept: int, done: int) -> range:
        """Returns as many of its own samples as every process has, less those that are trained."""
        return range(done // len(self._owned), self._least(self._counts(epoch, kept)))

    def digest(self, mask: NDArray[np.uint8], epoch: int, kept: int) -> int:
        """Returns a number that tells what the processes draw from: the histogram of all."""
        counts = self._counts(epoch, kept)
        return digest_of(self._shared.histogram.counts.data, counts.data)

    def by_cell(self, codes: NDArray[Any], binning: Binning) -> NDArray[Any]:
        """Returns what is said of the cells for the rows."""
        return codes_of(self.columns.values, codes, binning, self._threads)

    def rows_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Returns the rows of samples; -1 where another process holds them."""
        rows, own = self._rows_of(indices)
        return np.where(own, rows, -1)

    def _rows_of(self, indices: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the rows of samples, and which of them this process holds."""
        rows = self._partition.slot_of(indices) - self._slots.start
        return rows, (rows >= 0) & (rows < len(self._slots))

    def recording(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Returns what records its own samples at once, and logs those of others."""
        check_indices(indices, self._partition.n)
        self.columns.go_back()
        rows, own = self._rows_of(indices)
        if own.all():
            recorded = self.columns.recording(rows, losses, epoch)
            nonfinite, writes = recorded.nonfinite, [recorded.apply]
        else:
            self.columns.check(np.where(own, rows, 0), losses)
            recorded = self.columns.recording(rows[own], losses[own], epoch)
            with np.errstate(over="ignore"):
                others = losses[~own].astype(np.float32)
            nonfinite = recorded.nonfinite + int(np.count_nonzero(~np.isfinite(others)))
            writes = [recorded.apply, self._log.appending(indices[~own], others)]
        since = (self._since[0] + len(indices), self._since[1] + nonfinite)
        return Recorded(0, 0, partial(self._note, writes, since))

    def _note(self, writes: Sequence[Callable[[], None]], since: tuple[int, int]) -> None:
        for write in writes:
            write()
        self._since = since

    def exchange(self, epoch: int, digests: Sequence[int]) -> Exchanged:
        """Hands losses to those who hold them, and counts the losses of all samples."""
        what = f"end_epoch() of epoch {epoch}"
        totals = np.array([[len(self._log), *self._since]], np.int64)
        if self._ranks is not None:
            counts = check_in(self._ranks, self._since[0], digests, what)
            if not self._resumed:
                refuse_idle(counts, what)
            totals = np.stack(self._ranks.gather(totals[0], what))
            parts = rounds(self._ranks, self._log, totals[:, 0], what)
            for indices, losses in self.columns.folding(parts, self._rows_here):
                self._take(indices, losses, epoch)
        self.columns.rescore(epoch, epoch + 1)
        shared, visits = self._count(epoch, what)
        return Exchanged(int(totals[:, 2].sum()), visits, partial(self._over, shared))

    def _over(self, shared: Shared) -> None:
        self.columns.settled()
        self._shared = shared
        self._log.clear()
        self._since, self._resumed, self._dealt = (0, 0), False, None

    def _rows_here(self, indices: NDArray[Any]) -> NDArray[np.int64]:
        rows, own = self._rows_of(indices)
        return rows[own]

    def _take(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> None:
        rows, own = self._rows_of(indices)
        self.columns.record(rows[own], losses[own], epoch)

    def _count(self, epoch: int, what: str) -> tuple[Shared, Visits]:
        """Returns the histogram of all samples, and what their visits add up to."""
        ranks, wanted = self._ranks, self.columns.to_count()
        columns = [self.columns.values, *wanted.values()]
        ends = np.array([[_ends(column, self._threads) for column in columns]])
        visits = np.array([self._own_visits(epoch)], np.int64)
        if ranks is not None:
            told = ranks.gather(ends.reshape(-1), what)
            ends = np.reshape(told, (len(told), *ends.shape[1:]))  # (processes, columns, 2)
            visits = np.stack(ranks.gather(visits[0], what))
        trained, never, _ = visits.sum(axis=0).tolist()
        binnings = [_over(ends[:, at]) for at in range(len(columns))]
        histogram, *parts = self._sum(columns, binnings, what)
        always = parts.pop() if self._always is not None else self._shared.kept_always
        counted = dict(zip(wanted, parts, strict=True))
        shared = Shared(replace(histogram, columns=counted), always)
        return shared, Visits(trained, never, int(visits[:, 2].max()))

    def _sum(
        self, columns: Sequence[NDArray[np.float32]], binnings: Sequence[Binning], what: str
    ) -> list[LossHistogram]:
        """Returns the histograms of columns over all samples, and last that of `always_keep`."""
        parts = [
            count_shards(
                column, self._partition, self._shards, binning=binning, threads=self._threads
            )
            for column, binning in zip(columns, binnings, strict=True)
        ]
        if self._always is not None:
            ends_of_slots = self._slots.start, self._slots.stop
            mine = self._always[slice(*np.searchsorted(self._always, ends_of_slots))]
            always = columns[0][mine - self._slots.start]
            parts.append(LossHistogram.from_losses(always, binning=binnings[0], threads=1))
        counts = np.concatenate([part.cells for part in parts])
        if self._ranks is not None:
            counts = self._ranks.sum(counts, what)
        edges = np.cumsum([len(part.cells) for part in parts])[:-1]
        return [
            LossHistogram(part.binning, cells[:-1], int(cells[-1]))
            for part, cells in zip(parts, np.split(counts, edges), strict=True)
        ]

    def _own_visits(self, epoch: int) -> Visits:
        """Returns what the visits of the samples held add up to."""
        sizes = self._partition.sizes[self._shards.start : self._shards.stop]
        rows = self.columns.last_trained.reshape(len(sizes), -1)
        full = self._partition.n // self._partition.shards
        return visits_of([rows[:, :full], rows[sizes > full, full : full + 1]], epoch)

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns this process's part; never gathers."""
        dealt = self._dealt
        return {
            **self.columns.state_dict(copy=copy),
            "log": self._log.state_dict(),
            "shards": [self._shards.start, self._shards.stop],
            "dealt": None if dealt is None else {"epoch": dealt[0], "counts": dealt[1].copy()},
            "since_exchange": list(self._since),
            "shared": self._shared.state_dict(),
        }

    def load_state_dict(
        self, states: Sequence[State], reopened: Reopened | None = None
    ) -> tuple[int, int]:
        """Takes its shards out of the parts of all processes, whatever their number."""
        tables = [state["table"] for state in states]
        shared = Shared.from_state(tables[0]["shared"])
        values = [self.columns.values_of(table) for table in tables]
        others = any(own is not table["losses"] for own, table in zip(values, tables, strict=True))
        if others:
            shared = shared._replace(histogram=self._merged(values))
        if others or reopened is None:  # `always_keep` may be another now
            shown = [{**t, "losses": own} for t, own in zip(tables, values, strict=True)]
            shared = shared._replace(kept_always=self._kept_always(shown, shared))
        shared = shared._replace(
            histogram=replace(shared.histogram, columns=self._recounted(tables))
        )
        for table in tables:
            here, there = self._resharding.overlap(table)
            self.columns.take(here, table, there)
        if is_of_another(tables[0]):
            self.columns.rescore(-1, 0)
        self._dealt, self._shared, self._resumed = None, shared, reopened is not None
        if reopened is not None:
            epoch = int(states[0]["open"]["row"]["epoch"])
            for table in tables:
                self._take(table["log"]["indices"], table["log"]["losses"], epoch)
            if reopened.dealt is not None:
                self._dealt = epoch, reopened.dealt
            if not reopened.same_order and self.columns.kept_counts is not None:
                trained = self._resharding.masked(states) & ~reopened.mask
                self.columns.kept_counts += np.unpackbits(trained)
        self._log.clear()
        trained, nonfinite = np.sum([table["since_exchange"] for table in tables], axis=0).tolist()
        self._since = (trained, nonfinite) if self._rank == 0 else (0, 0)
        return 0, 0

    def _kept_always(self, tables: Sequence[State], shared: Shared) -> LossHistogram:
        """Returns the histogram of the samples that are always kept, from the parts of all."""
        slots = np.zeros(0, np.int64) if self._always is None else self._always
        losses = self._resharding.at(slots, tables, "losses")
        return LossHistogram.from_losses(losses, binning=shared.histogram.binning, threads=1)

    def _recounted(self, tables: Sequence[State]) -> dict[str, LossHistogram]:
        """Returns the histograms of the columns that are counted, from the parts of all."""
        parts = [self.columns.to_count(table) for table in tables]
        return {name: self._merged([part[name] for part in parts]) for name in self.columns.wanted}

    def _merged(self, parts: Sequence[NDArray[np.float32]]) -> LossHistogram:
        """Returns the histogram of a column whose parts are all shards."""
        binning = _over(np.array([_ends(part, self._threads) for part in parts]))
        counts = np.zeros(binning.size, np.int64)
        for part in parts:
            own = LossHistogram.from_losses(part, binning=binning, threads=self._threads)
            counts += own.counts
            let_go(part)
        return LossHistogram(binning, counts, self._partition.n - int(counts.sum()))

    def reopened(self, states: Sequence[State]) -> Reopened:
        """Returns this process's part of the open epoch; redistributed if the processes changed."""
        head = states[0]
        ranges = [list(state["table"]["shards"]) for state in states]
        if ranges == [[shards.start, shards.stop] for shards in self._owned]:
            dealt = head["table"]["dealt"]
            if dealt is not None and dealt["epoch"] != head["open"]["row"]["epoch"]:
                dealt = None
            mask = np.array(states[self._rank]["open"]["mask"])
            return Reopened(mask, True, dealt and np.array(dealt["counts"]))
        mask, counts = self._resharding.rest(states)
        left, taken = int(counts.sum()), self._least(counts) * len(self._owned)
        if taken < left:
            logger.warning(
                "epoch %d continues on other ranks, which own unequal parts of the %d samples that "
                "are left: %d of them are trained, on each rank as many as the rank with the "
                "fewest has. A state from between two epochs loses nothing",
                int(head["open"]["row"]["epoch"]), left, taken,
            )  # fmt: skip
        return Reopened(mask, False, counts)

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns its part of the weights."""
        return self._resharding.weights(states)

    @property
    def _resharding(self) -> Resharding:
        return Resharding(self._partition, self._shards)


def _ends(losses: NDArray[np.float32], threads: int) -> tuple[float, float]:
    """Returns the smallest and the largest, or NaN twice where all are unseen."""
    return loss_range(losses, threads=threads) or (np.nan, np.nan)


def _over(ends: NDArray[np.float64]) -> Binning:
    """Returns the binning that holds what all parts have: ends is (parts, 2), NaN = unseen."""
    seen = not np.isnan(ends).all()
    return Binning.over(np.nanmin(ends), np.nanmax(ends)) if seen else Binning.over(0, 0)
