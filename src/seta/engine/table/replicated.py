"""The replicated loss table: each process holds all losses.

A single process records in place. Several processes log their losses, and record those of all when
the epoch ends, in process order. So their tables stay bitwise equal, and so do their selections,
which are a function of (losses, seed, epoch) for any number of processes.

Memory: 6 bytes per sample; with several processes 8 more per sample that this one trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram, codes_of, histograms_of
from seta.engine.draw.choose import Choice, choose
from seta.engine.draw.order import Order
from seta.engine.steps import Steps
from seta.engine.table.columns import LossColumns, Recorded
from seta.engine.table.exchange import check_in, digest_of, refuse_idle, rounds
from seta.engine.table.log import RecordLog
from seta.engine.table.ranks import Ranks, share_of
from seta.engine.table.table import Exchanged, Reopened, State


class ReplicatedTable:
    """Loss table with the losses of all samples, in each process.

    Args:
        columns: Of all samples.
        always_keep: Sorted indices of samples that are always chosen.
        seed: Of the run.
        threads: Threads to use.
        ranks: The processes; None: this one alone.
        strata: Unsigned integers (n,), where the policy looks at them; None: it does not.
    """

    held = None

    def __init__(
        self,
        columns: LossColumns,
        *,
        always_keep: NDArray[np.int64] | None,
        seed: int,
        threads: int,
        ranks: Ranks | None,
        strata: NDArray[np.unsignedinteger[Any]] | None = None,
    ) -> None:
        self.columns = columns
        self._strata = strata
        self._always_keep, self._seed, self._threads = always_keep, seed, threads
        self._ranks = ranks
        self._log = RecordLog(len(columns))
        self._resumed = False  # in the open epoch, of which others may have had more to train

    def rescore(self, before: int, epoch: int) -> None:
        """Updates the scores, if there are some and they are due."""
        self.columns.rescore(before, epoch)

    def histogram(self) -> LossHistogram:
        """Returns the histogram of all samples."""
        histogram = LossHistogram.from_losses(
            self.columns.values, threads=self._threads, strata=self._strata
        )
        wanted = self.columns.to_count()
        return replace(histogram, columns=histograms_of(wanted, self._threads))

    def choose(
        self,
        histogram: LossHistogram,
        curve: KeepCurve,
        *,
        count: int | None,
        sizes: Steps,
        epoch: int,
    ) -> Choice:
        """Chooses an epoch's samples."""
        return choose(
            self.columns.values,
            histogram,
            curve,
            count=count,
            sizes=sizes,
            always_keep=self._always_keep,
            seed=self._seed,
            epoch=epoch,
            threads=self._threads,
            strata=self._strata,
        )

    def order(self, mask: NDArray[np.uint8], epoch: int) -> Order:
        """Returns the training order of the samples of a mask."""
        return Order(mask, len(self.columns), seed=self._seed, epoch=epoch)

    def digest(self, mask: NDArray[np.uint8], epoch: int, kept: int) -> int:
        """Returns a number that tells selections apart."""
        return digest_of(mask.data)

    def share_size(self, kept: int) -> int:
        """Returns an equal part, rounded down."""
        return kept if self._ranks is None else kept // self._ranks.size

    def share(self, epoch: int, kept: int, done: int) -> range:
        """Returns every `size`-th position of those that are left, from this rank on."""
        return share_of(range(done, kept), self._ranks)

    def forget_epoch(self) -> None:
        """Forgets that the open epoch was begun elsewhere."""
        self._resumed = False

    def by_cell(self, codes: NDArray[Any], binning: Binning) -> NDArray[Any]:
        """Returns what is said of the cells for the samples."""
        strata = self._strata if len(codes) > binning.size + 1 else None
        return codes_of(self.columns.values, codes, binning, self._threads, strata)

    def rows_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Returns the indices: all samples are here."""
        return indices

    def recording(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Returns what records at once if alone, else logs until the epoch ends."""
        if self._ranks is None:
            return self.columns.recording(indices, losses, epoch)
        self.columns.check(indices, losses)
        return Recorded(0, 0, self._log.appending(indices, losses))

    def exchange(self, epoch: int, digests: Sequence[int]) -> Exchanged:
        """Records what all processes logged."""
        if self._ranks is None:
            return Exchanged(0, self.columns.visits(epoch), self._over)
        what = f"end_epoch() of epoch {epoch}"
        counts = check_in(self._ranks, len(self._log), digests, what)
        if not self._resumed:
            refuse_idle(counts, what)
        nonfinite = 0
        parts = rounds(self._ranks, self._log, counts, what)
        for indices, losses in self.columns.folding(parts, self.rows_of):
            nonfinite += self.columns.record(indices, losses, epoch).nonfinite
        return Exchanged(nonfinite, self.columns.visits(epoch), self._over)

    def _over(self) -> None:
        self.columns.settled()
        self._log.clear()
        self._resumed = False

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns the columns and the log, of this process or gathered."""
        log = self._log
        if self._ranks is not None and what is not None:
            counts = check_in(self._ranks, len(log), digests, what)
            log = RecordLog(len(self.columns))
            for indices, losses in rounds(self._ranks, self._log, counts, what):
                log.append(indices, losses)
        return {**self.columns.state_dict(copy=copy), "log": log.state_dict()}

    def load_state_dict(
        self, states: Sequence[State], reopened: Reopened | None = None
    ) -> tuple[int, int]:
        """Takes over the columns, which all states have, and the logs.

        Of several processes those that train the first share log them again for the end of the
        epoch; one alone records them.
        """
        head = states[0]
        self._resumed = reopened is not None
        self.columns.load_state_dict(head["table"])
        self._log.clear()
        trained = nonfinite = 0
        for state in states:
            indices, losses = (state["table"]["log"][name] for name in ("indices", "losses"))
            if self._ranks is None and len(indices):
                recorded = self.columns.record(indices, losses, head["open"]["row"]["epoch"])
                trained, nonfinite = trained + recorded.trained, nonfinite + recorded.nonfinite
            elif self._ranks is not None and self._ranks.rank == 0:
                self._log.append(indices, losses)
        return trained, nonfinite

    def reopened(self, states: Sequence[State]) -> Reopened:
        """Returns the open epoch, which all states have."""
        return Reopened(np.array(states[0]["open"]["mask"]), same_order=True)

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns the weights, which all states have."""
        weights: NDArray[np.uint8] | None = states[0]["open"]["weights"]
        return weights
