"""The loss table held whole by each process.

Alone, a process records in place. Several log what they train and record it all when the epoch
ends, in process order, so that their tables stay equal bit for bit, and with them their selections:
those are a function of (losses, seed, epoch), whatever the number of processes.

Memory: 6 bytes per sample; with several processes 8 more per sample that this one trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.choose import Choice, choose
from seta.engine.curve import KeepCurve
from seta.engine.draw import shuffled
from seta.engine.exchange import RecordLog, check_in, digest_of, refuse_idle, rounds
from seta.engine.histogram import Binning, LossHistogram, codes_of
from seta.engine.losses import LossTable, Recorded, Visits
from seta.engine.ranks import Ranks, share_of
from seta.engine.steps import Steps
from seta.engine.table import State


class ReplicatedTable:
    """All losses, in each process.

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
        columns: LossTable,
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

    def histogram(self, before: int, epoch: int) -> LossHistogram:
        """Returns the histogram of all samples, their scores taken anew."""
        self.columns.rescore(before, epoch)
        return LossHistogram.from_losses(
            self.columns.values, threads=self._threads, strata=self._strata
        )

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

    def order(self, mask: NDArray[np.uint8], epoch: int) -> NDArray[np.unsignedinteger[Any]]:
        """Returns the samples of a mask in training order."""
        return shuffled(
            mask, len(self.columns), seed=self._seed, epoch=epoch, threads=self._threads
        )

    def digest(self, mask: NDArray[np.uint8]) -> int:
        """Returns a number that tells selections apart."""
        return digest_of(mask.tobytes())

    def share_size(self, kept: int) -> int:
        """Returns an equal part, rounded down."""
        return kept if self._ranks is None else kept // self._ranks.size

    def share(self, order: NDArray[Any], done: int) -> NDArray[Any]:
        """Returns every `size`-th sample of what is left of the order, from this rank on."""
        return share_of(order, done, self._ranks)

    def by_cell(self, codes: NDArray[Any], binning: Binning) -> NDArray[Any]:
        """Returns what is said of the cells for the samples."""
        return codes_of(self.columns.values, codes, binning, self._threads, self._strata)

    def rows_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Returns the indices: all samples are here."""
        return indices

    def record(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Records at once if alone, else when the epoch ends."""
        if self._ranks is None:
            return self.columns.record(indices, losses, epoch)
        self.columns.check(indices, losses)
        self._log.append(indices, losses)
        return Recorded(0, 0)

    def exchange(self, epoch: int, digests: Sequence[int]) -> int:
        """Records what all processes logged."""
        if self._ranks is None:
            return 0
        what = f"end_epoch() of epoch {epoch}"
        counts = check_in(self._ranks, len(self._log), digests, what)
        if not self._resumed:
            refuse_idle(counts, what)
        nonfinite = 0
        for indices, losses in rounds(self._ranks, self._log, counts, what):
            nonfinite += self.columns.record(indices, losses, epoch).nonfinite
        self._log.clear()
        self._resumed = False
        return nonfinite

    def visits(self, epoch: int) -> Visits:
        """Returns what the visits of all samples add up to."""
        return self.columns.visits(epoch)

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns the columns and the log, of this process or gathered."""
        log = self._log
        if self._ranks is not None and what is not None:
            counts = check_in(self._ranks, len(log), digests, what)
            log = RecordLog(len(self.columns))
            for indices, losses in rounds(self._ranks, self._log, counts, what):
                log.append(indices, losses)
        return {**self.columns.state_dict(copy=copy), "log": log.state_dict()}

    def load_state_dict(self, states: Sequence[State]) -> Recorded:
        """Takes over the columns, which all states have, and the logs.

        Of several processes those that train the first share log them again for the end of the
        epoch; one alone records them.
        """
        self._resumed = states[0]["open"] is not None
        head = states[0]
        self.columns.load_state_dict(head)
        self._log.clear()
        trained = nonfinite = 0
        for state in states:
            indices, losses = state["log"]["indices"], state["log"]["losses"]
            if self._ranks is None and len(indices):
                recorded = self.columns.record(indices, losses, head["open"]["row"]["epoch"])
                trained, nonfinite = trained + recorded.trained, nonfinite + recorded.nonfinite
            elif self._ranks is not None and self._ranks.rank == 0:
                self._log.append(indices, losses)
        return Recorded(trained, nonfinite)

    def open_mask(self, states: Sequence[State]) -> tuple[NDArray[np.uint8], bool]:
        """Returns the mask, which all states have."""
        return np.array(states[0]["open"]["mask"], np.uint8), True

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns the weights, which all states have."""
        weights: NDArray[np.uint8] | None = states[0]["open"]["weights"]
        return weights
