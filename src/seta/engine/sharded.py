"""The loss table in parts: each process holds the losses of its own shards, and trains on those.

For datasets whose losses are too many for every process. What the processes exchange when an epoch
ends is the range of the losses and then their histogram, at most 1 MB (2 with `always_keep`),
whatever the number of samples; and losses recorded for samples that another process holds, which
its own loader never gives out. An epoch begins without a word between them: the curve follows from
the histogram, and how many samples each shard draws from the curve. So every epoch has an exact
length, with a budget or without.

Memory: 6 bytes per sample held. A window is kept whole only nearly (see `sharded_draw`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import parallel
from seta.engine.choose import Choice, count_of
from seta.engine.curve import KeepCurve
from seta.engine.draw import shuffled
from seta.engine.exchange import RecordLog, check_in, digest_of, refuse_idle, rounds
from seta.engine.fit import fit
from seta.engine.histogram import Binning, LossHistogram, codes_of, loss_range
from seta.engine.losses import LossTable, Recorded, Visits, check_indices, visits_of
from seta.engine.partition import Partition, shards_of
from seta.engine.policy import KeepsScore
from seta.engine.ranks import Ranks
from seta.engine.sharded_draw import count_shards, draw_shards
from seta.engine.steps import Steps
from seta.engine.table import State

logger = logging.getLogger(__name__)


class ShardedTable:
    """The losses of this process's shards.

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
    ) -> None:
        self._rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)
        if ranks is not None and ranks.processes != size:
            raise ValueError(
                f'sharding="sharded" needs one process for each share, got {ranks.processes} '
                f'processes for {size} shares: use sharding="replicated", which keeps processes '
                "that train one share together of one mind"
            )
        self._partition = Partition(n, shards_of(n))
        self._owned = [self._partition.owned(rank, size) for rank in range(size)]
        self._shards = self._owned[self._rank]
        self._slots = self._partition.slots(self._shards)
        self._seed, self._threads, self._ranks = seed, threads, ranks
        self._always_keep = always_keep
        self._always = self._slots_of_always_keep()
        self.columns = LossTable(len(self._slots), epochs, count_kept=count_kept, scored=scored)
        self._log = RecordLog(n)  # of samples that other processes hold
        self._trained = self._nonfinite = 0  # since the last exchange, over all samples
        self._visits = Visits(0, 0, 0)
        self._resumed = False  # in the open epoch, of which others may have had more to train
        self._counts = np.zeros(self._partition.shards, np.int64)  # of the open epoch, by shard
        self._histogram = LossHistogram(Binning.over(0, 0), np.zeros(1, np.int64), n)
        always = 0 if always_keep is None else len(always_keep)
        self._kept_always = LossHistogram(Binning.over(0, 0), np.zeros(1, np.int64), always)
        if losses is not None:
            self._warm_start(n, epochs, losses)
        self._warn_of_imbalance()

    def _slots_of_always_keep(self) -> NDArray[np.int64] | None:
        if self._always_keep is None:
            return None
        return np.sort(self._partition.slot_of(self._always_keep))

    def _warm_start(self, n: int, epochs: int, losses: ArrayLike) -> None:
        values = LossTable(n, epochs, losses).values
        self._histogram = LossHistogram.from_losses(values, threads=self._threads)
        if self._always_keep is not None:
            self._kept_always = LossHistogram.from_losses(
                values[self._always_keep], binning=self._histogram.binning, threads=self._threads
            )
        for block in parallel.blocks(range(len(self._slots))):
            index = self._partition.index_of(np.arange(block.start, block.stop) + self._slots.start)
            here = self.columns.values[block]
            here[index < n] = values[index[index < n]]
        self.columns.begin_columns(slice(None))

    def _warn_of_imbalance(self) -> None:
        most, least = (choose(map(len, self._owned)) for choose in (max, min))
        if most > 1.02 * least:
            logger.warning(
                "%d ranks share %d shards: some own %d and some %d, and every epoch is as long as "
                "the least allows, %.0f %% less for the others. A number of ranks that divides %d "
                'loses nothing; neither does sharding="replicated"',
                len(self._owned), self._partition.shards, most, least,
                100 * (1 - least / most), self._partition.shards,
            )  # fmt: skip

    @property
    def held(self) -> NDArray[np.int64]:
        """The samples of the columns' rows, n or more where a row is empty."""
        return self._partition.index_of(np.arange(self._slots.start, self._slots.stop))

    def histogram(self, before: int, epoch: int) -> LossHistogram:
        """Returns the histogram of all samples, of the last exchange."""
        return self._histogram

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
        always = self._kept_always.total
        figures: dict[str, Any] = dict.fromkeys(("fit_factor", "fit_widened", "fit_trimmed"))
        counts = histogram.counts - self._kept_always.counts if always else histogram.counts
        others = LossHistogram(
            histogram.binning, counts, histogram.unseen - self._kept_always.unseen
        )
        free = count is None and sizes.global_batch == 1
        if count is None:
            count = count_of(curve, others, always, sizes)
        if not free:
            fitted = fit(curve, others, count - always)
            curve = fitted.curve
            figures["fit_factor"] = fitted.factor if np.isfinite(fitted.factor) else None
            figures["fit_widened"] = fitted.widened
        self._counts = self._partition.counts(count)
        mask = draw_shards(
            self.columns.values,
            self._partition,
            self._shards,
            others,
            curve,
            count,
            always_keep=self._always,
            seed=self._seed,
            epoch=epoch,
            threads=self._threads,
        )
        return Choice(mask, curve, figures, kept=count)

    def order(self, mask: NDArray[np.uint8], epoch: int) -> NDArray[np.unsignedinteger[Any]]:
        """Returns this process's samples in training order."""
        rows = shuffled(mask, len(self._slots), seed=self._seed, epoch=epoch, threads=self._threads)
        order: NDArray[np.unsignedinteger[Any]]
        order = np.empty(len(rows), np.uint32 if self._partition.n < 2**32 else np.uint64)
        for block in parallel.blocks(range(len(rows))):
            slots = rows[block].astype(np.int64) + self._slots.start
            order[block] = self._partition.index_of(slots)
        return order

    def share_size(self, kept: int) -> int:
        """Returns the least that the shards of any process draw."""
        return self._least(self._partition.counts(kept))

    def _least(self, counts: NDArray[np.int64]) -> int:
        return min(int(counts[shards.start : shards.stop].sum()) for shards in self._owned)

    def share(self, order: NDArray[Any], done: int) -> NDArray[Any]:
        """Returns as many of its own samples as every process has, less those that are trained."""
        return order[: self._least(self._counts)][done // len(self._owned) :]

    def digest(self, mask: NDArray[np.uint8]) -> int:
        """Returns a number that tells what the processes draw from: the histogram of all."""
        return digest_of(self._histogram.counts.tobytes(), self._counts.tobytes())

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

    def record(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Records its own samples at once, and logs those of others; counted at the exchange."""
        check_indices(indices, self._partition.n)
        rows, own = self._rows_of(indices)
        everything = bool(own.all())
        if everything:
            self._nonfinite += self.columns.record(rows, losses, epoch).nonfinite
        else:
            self.columns.check(np.where(own, rows, 0), losses)
            self._nonfinite += self.columns.record(rows[own], losses[own], epoch).nonfinite
            self._log.append(indices[~own], losses[~own])
            with np.errstate(over="ignore"):
                others = losses[~own].astype(np.float32)
            self._nonfinite += int(np.count_nonzero(~np.isfinite(others)))
        self._trained += len(indices)
        return Recorded(0, 0)

    def exchange(self, epoch: int, digests: Sequence[int]) -> int:
        """Hands losses to those who hold them, and counts the losses of all samples."""
        what = f"end_epoch() of epoch {epoch}"
        totals = np.array([[len(self._log), self._trained, self._nonfinite]], np.int64)
        if self._ranks is not None:
            counts = check_in(self._ranks, self._trained, digests, what)
            if not self._resumed:
                refuse_idle(counts, what)
            totals = np.stack(self._ranks.gather(totals[0], what))
            for indices, losses in rounds(self._ranks, self._log, totals[:, 0], what):
                self._take(indices, losses, epoch)
        self._log.clear()
        self._trained = self._nonfinite = 0
        self._resumed = False
        self.columns.rescore(epoch, epoch + 1)
        self._count(epoch, what)
        return int(totals[:, 2].sum())

    def _take(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> None:
        rows, own = self._rows_of(indices)
        self.columns.record(rows[own], losses[own], epoch)

    def _count(self, epoch: int, what: str) -> None:
        """Makes the histogram of all samples."""
        values, ranks = self.columns.values, self._ranks
        bounds = loss_range(values, threads=self._threads)
        ends = np.array([np.nan, np.nan] if bounds is None else bounds)
        visits = np.array([self._own_visits(epoch)], np.int64)
        if ranks is not None:
            ends = np.stack(ranks.gather(ends, what))
            visits = np.stack(ranks.gather(visits[0], what))
        trained, never, _ = visits.sum(axis=0).tolist()
        self._visits = Visits(trained, never, int(visits[:, 2].max()))
        seen = ~np.isnan(ends).all()
        binning = Binning.over(np.nanmin(ends), np.nanmax(ends)) if seen else Binning.over(0, 0)
        own = count_shards(
            values, self._partition, self._shards, binning=binning, threads=self._threads
        )
        parts = [own]
        if self._always is not None:
            mine = self._always[slice(*np.searchsorted(self._always, self._ends))]
            always = values[mine - self._slots.start]
            parts.append(LossHistogram.from_losses(always, binning=binning, threads=1))
        counts = np.concatenate([np.append(part.counts, part.unseen) for part in parts])
        if ranks is not None:
            counts = ranks.sum(counts, what)
        merged = [
            LossHistogram(binning, part[:-1], int(part[-1]))
            for part in np.split(counts, len(parts))
        ]
        self._histogram = merged[0]
        if len(merged) > 1:
            self._kept_always = merged[1]

    @property
    def _ends(self) -> tuple[int, int]:
        return self._slots.start, self._slots.stop

    def _own_visits(self, epoch: int) -> Visits:
        """Returns what the visits of the samples held add up to."""
        sizes = self._partition.sizes[self._shards.start : self._shards.stop]
        rows = self.columns.last_trained.reshape(len(sizes), -1)
        full = self._partition.n // self._partition.shards
        return visits_of([rows[:, :full], rows[sizes > full, full : full + 1]], epoch)

    def visits(self, epoch: int) -> Visits:
        """Returns what the visits of all samples add up to."""
        return self._visits

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns this process's part; never gathers."""
        always = self._kept_always
        return {
            **self.columns.state_dict(copy=copy),
            "log": self._log.state_dict(),
            "shards": [self._shards.start, self._shards.stop],
            "counts": self._counts.copy(),
            "since_exchange": [self._trained, self._nonfinite],
            "binning": [getattr(always.binning, name) for name in ("smallest", "shift", "size")],
            "histogram": np.append(self._histogram.counts, self._histogram.unseen),
            "kept_always": np.append(always.counts, always.unseen),
        }

    def load_state_dict(self, states: Sequence[State]) -> Recorded:
        """Takes its shards out of the parts of all processes, whatever their number."""
        self._resumed = states[0]["open"] is not None
        for state in states:
            self._take_columns(state)
        for state in states:
            if len(state["log"]["indices"]):
                self._take(**state["log"], epoch=int(state["open"]["row"]["epoch"]))
        self._log.clear()
        head = states[0]
        self._counts = np.array(head["counts"], np.int64)
        binning = Binning(*head["binning"])
        self._histogram, self._kept_always = (
            LossHistogram(binning, np.array(head[name][:-1], np.int64), int(head[name][-1]))
            for name in ("histogram", "kept_always")
        )
        since = np.sum([state["since_exchange"] for state in states], axis=0).tolist()
        self._trained, self._nonfinite = since if self._rank == 0 else (0, 0)
        return Recorded(0, 0)

    def _take_columns(self, state: State) -> None:
        here, there = self._overlap(state)
        self.columns.take(here, state, there)

    def _overlap(self, state: State, per_row: int = 1) -> tuple[slice, slice]:
        """Returns where the shards of a state, which are this process's, are here, and there."""
        first, last = state["shards"]
        start, stop = max(first, self._shards.start), min(last, self._shards.stop)
        length = self._partition.length // per_row
        stop = max(start, stop)
        return (
            slice((start - self._shards.start) * length, (stop - self._shards.start) * length),
            slice((start - first) * length, (stop - first) * length),
        )

    def open_mask(self, states: Sequence[State]) -> tuple[NDArray[np.uint8], bool]:
        """Returns its part of the mask; dealt out anew if the processes are others."""
        ranges = [list(state["shards"]) for state in states]
        if ranges == [[shards.start, shards.stop] for shards in self._owned]:
            return np.array(states[self._rank]["open"]["mask"], np.uint8), True
        mask = np.zeros(len(self._slots) // 8, np.uint8)
        logged = [state["log"]["indices"] for state in states]
        trained = self._partition.slot_of(np.concatenate(logged).astype(np.int64))
        for state in states:
            rest = self._rest(state, trained)
            first, last = state["shards"]
            bits = np.unpackbits(rest.reshape(last - first, -1), axis=1)
            self._counts[first:last] = bits.sum(axis=1, dtype=np.int64)
            here, there = self._overlap(state, per_row=8)
            mask[here] = rest[there]
        return mask, False

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns its part of the weights."""
        saved = [state["open"]["weights"] for state in states]
        if saved[0] is None:
            return None
        weights = np.empty((len(saved[0]), len(self._slots) // 8), np.uint8)
        for state, part in zip(states, saved, strict=True):
            here, there = self._overlap(state, per_row=8)
            weights[:, here] = part[:, there]
        return weights

    def _rest(self, state: Mapping[str, Any], trained: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns what a state's part of the mask has left to train: a mask of its rows."""
        done = state["last_trained"] == int(state["open"]["row"]["epoch"]) + 1
        slots = self._partition.slots(range(*state["shards"]))
        inside = trained[(trained >= slots.start) & (trained < slots.stop)]
        done[inside - slots.start] = True
        rest: NDArray[np.uint8] = np.asarray(state["open"]["mask"]) & ~np.packbits(done)
        return rest
