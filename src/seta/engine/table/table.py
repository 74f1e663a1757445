"""The interface of a loss table, which is replicated or sharded.

`ReplicatedTable` holds the losses of all samples in each process, `ShardedTable` those of the
process's own shards. Each draws from its own losses, and exchanges what other processes need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram
from seta.engine.draw.choose import Choice
from seta.engine.draw.selection import Order
from seta.engine.steps import Steps
from seta.engine.table.columns import LossColumns, Recorded, Visits

State = Mapping[str, Any]
Sharding = Literal["replicated", "sharded"]

SHARDED_FROM = 100_000_000
"""Number of samples from which on the table is sharded by default, with several processes."""


class Exchanged(NamedTuple):
    """What a process knows after an exchange.

    Attributes:
        nonfinite: Losses that were not finite and were not counted before, over all processes.
        visits: What the visits of all samples add up to.
        apply: Closes the epoch in the table; again, it changes nothing more.
    """

    nonfinite: int
    visits: Visits
    apply: Callable[[], None]


class Reopened(NamedTuple):
    """The open epoch of states that are to be loaded, for one process.

    Attributes:
        mask: uint8 (ceil(rows / 8),), a bit for each of its rows.
        same_order: Whether it is in the saved order; if not, it is what is still to be trained.
        dealt: int64 (shards,), the samples of each shard of a sharded table, if they were
            distributed again; None: as it began.
    """

    mask: NDArray[np.uint8]
    same_order: bool
    dealt: NDArray[np.int64] | None = None


class Table(Protocol):
    """Holds the losses, and draws the samples of an epoch."""

    @property
    def columns(self) -> LossColumns:
        """The columns that this process holds."""

    @property
    def held(self) -> NDArray[np.int64] | None:
        """The samples of the columns' rows; None: row i is sample i."""

    def rescore(self, before: int, epoch: int) -> None:
        """Updates the scores, if there are some and they are due; has no effect the second time.

        Args:
            before: The latest epoch that is over; -1: none.
            epoch: The one to begin.
        """

    def histogram(self) -> LossHistogram:
        """Returns the histogram of all samples; does not communicate."""

    def choose(
        self,
        histogram: LossHistogram,
        curve: KeepCurve,
        *,
        count: int | None,
        sizes: Steps,
        epoch: int,
    ) -> Choice:
        """Chooses an epoch's samples among the columns' rows.

        Args:
            histogram: Of all samples.
            curve: The policy's, made for it.
            count: How many samples to choose over all processes; None: as many as the curve says,
                to the nearest whole global batch.
            sizes: Of the run.
            epoch: The epoch.
        """

    def order(self, mask: NDArray[np.uint8], epoch: int) -> Order:
        """Returns the training order of the samples of a mask."""

    def digest(self, mask: NDArray[np.uint8], epoch: int, kept: int) -> int:
        """Returns a number that is the same on all processes if they draw alike."""

    def share_size(self, kept: int) -> int:
        """Returns how many samples each process trains of so many over all processes."""

    def share(self, epoch: int, kept: int, done: int) -> range:
        """Returns which positions of its order this process trains, equally many on each.

        Args:
            epoch: The open epoch.
            kept: Its samples, over all processes.
            done: How many of them, the first ones, are trained already.
        """

    def forget_epoch(self) -> None:
        """Forgets what a state said of the open epoch, which is to be drawn again."""

    def by_cell(self, codes: NDArray[Any], binning: Binning) -> NDArray[Any]:
        """Returns what is said of the cells for the rows, by their latest losses.

        Args:
            codes: (cells,).
            binning: The cells'.

        Returns:
            (rows + 1,); the last is for samples that other processes hold, which count as unseen.
        """

    def rows_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Returns the rows of samples; -1 where another process holds them."""

    def recording(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Returns what takes losses; what counts only once it is exchanged is not in it."""

    def exchange(self, epoch: int, digests: Sequence[int]) -> Exchanged:
        """Closes an epoch: the processes exchange their losses, or a summary of them.

        Args:
            epoch: The epoch.
            digests: Of the settings and the selection, the same on all processes if they agree.

        Raises:
            RuntimeError: The processes do not agree, or one of them got nothing to train.
        """

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns the columns, and what has not been exchanged yet.

        Args:
            what: The occasion, to gather what the others have not exchanged; None: do not.
            digests: As for `exchange`.
            copy: Copies of the columns, instead of views.
        """

    def load_state_dict(
        self, states: Sequence[State], reopened: Reopened | None = None
    ) -> tuple[int, int]:
        """Resumes from the states of all processes of a run, whose number may have changed.

        Args:
            states: Checked, and in the order of their parts.
            reopened: Of these states; None: no epoch is open.

        Returns:
            How many samples count as trained, and how many losses as not finite, that did not in
            the states.
        """

    def reopened(self, states: Sequence[State]) -> Reopened:
        """Returns the open epoch of states that are to be loaded; changes nothing."""

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns the open epoch's packed weights from such states; None: all are 1."""
