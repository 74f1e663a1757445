"""Where a run stands: the open epoch, what was trained, and which epochs are over.

An immutable value. A step of the pruner makes a new one and replaces the old one at once, so that
an interrupt finds the run before a step or after it, never within one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.open_epoch import OpenEpoch
from seta.engine.rows import Row
from seta.engine.table.columns import Visits


class Tally(NamedTuple):
    """What came in the open epoch.

    Attributes:
        trained: Samples whose losses were recorded, as far as it is known before the epoch ends.
        nonfinite: Losses that were not finite.
        seconds: Time from the beginning of the epoch to the last loss recorded.
        clock: When that was, by `time.perf_counter`.
        came: Losses that this process recorded.
        largest: The most that came at once.
        given: Samples that were given out, all of this rank's share; 0: not known.
    """

    trained: int = 0
    nonfinite: int = 0
    seconds: float = 0.0
    clock: float = 0.0
    came: int = 0
    largest: int = 0
    given: int = 0

    def after(self, losses: int, trained: int, nonfinite: int) -> Tally:
        """Returns the tally after so many losses, and what became of them."""
        now = time.perf_counter()
        return Tally(
            self.trained + trained,
            self.nonfinite + nonfinite,
            self.seconds + now - self.clock,
            now,
            self.came + losses,
            max(self.largest, losses),
            self.given,
        )


class Run(NamedTuple):
    """Where a run stands.

    Attributes:
        next_epoch: The first epoch that has not ended.
        trained: Visits of the epochs that are over.
        full: What full training would have visited in them.
        open: The open epoch.
        tally: What came in it.
        done: Samples of its selection, the first ones, that need not be trained again.
        resumed: Whether it was trained in part when it was saved.
        reclassed: Whether it was drawn by other classes than those of the run.
        histogram: Of the losses that the latest epoch began with.
        curve: Of the latest epoch.
    """

    next_epoch: int = 0
    trained: int = 0
    full: int = 0
    open: OpenEpoch | None = None
    tally: Tally = Tally()
    done: int = 0
    resumed: bool = False
    reclassed: bool = False
    histogram: LossHistogram | None = None
    curve: KeepCurve | None = None

    @property
    def begun(self) -> int:
        """The first epoch that has not begun."""
        return self.next_epoch if self.open is None else self.open.epoch + 1

    @property
    def any_trained(self) -> bool:
        """Whether any part of the open epoch was trained."""
        tally = self.tally
        return self.open is not None and bool(
            self.resumed or self.done or tally.came or tally.trained
        )

    def begin(self, epoch: OpenEpoch, histogram: LossHistogram) -> Run:
        """Returns the run with an epoch that has just begun."""
        return self._replace(
            open=epoch,
            tally=Tally(clock=time.perf_counter()),
            done=0,
            resumed=False,
            reclassed=False,
            histogram=histogram,
            curve=epoch.curve,
        )

    def close(self, row: Row, visits: Visits, nonfinite: int, full: int) -> tuple[Row, Run]:
        """Ends the open epoch: returns its row, and the run after it.

        Args:
            row: As it began.
            visits: What the samples' last visits add up to.
            nonfinite: Losses that were not finite and are not in the tally.
            full: What full training would have visited in the epoch.
        """
        tally = self.tally
        trained, full = self.trained + visits.trained, self.full + full
        row = {
            **row,
            "trained": visits.trained,
            "saved": 1 - trained / full,
            "nonfinite": tally.nonfinite + nonfinite,
            "longest_left_out": visits.longest_left_out,
            "never_trained": visits.never,
            "train_seconds": tally.seconds,
        }
        if visits.trained:
            spared = (row["samples"] - visits.trained) * tally.seconds / visits.trained
            row["saved_seconds"] = spared - row["select_seconds"]
        after = Run(
            int(row["epoch"]) + 1, trained, full, histogram=self.histogram, curve=self.curve
        )
        return row, after

    @property
    def saved(self) -> float:
        """Share of full training's visits saved in the epochs that are over; 0 before the first."""
        return 1 - self.trained / self.full if self.full else 0.0

    @classmethod
    def after(cls, history: Sequence[Row], full: int) -> Run:
        """Returns the run after the epochs of some rows.

        Args:
            history: The rows.
            full: What full training would have visited in these epochs.
        """
        next_epoch = int(history[-1]["epoch"]) + 1 if history else 0
        return cls(next_epoch, sum(int(row["trained"]) for row in history), full)
