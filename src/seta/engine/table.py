"""What a `Pruner` asks of the table that holds the losses, whole or this process's part of it.

`ReplicatedTable` holds every sample's loss in each process, `ShardedTable` those of the shards that
the process owns. Each draws from what it holds, and exchanges what the others need to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from seta.engine.choose import Choice
from seta.engine.curve import KeepCurve
from seta.engine.histogram import Binning, LossHistogram
from seta.engine.losses import LossTable, Recorded, Visits
from seta.engine.steps import Steps

State = Mapping[str, Any]
Sharding = Literal["replicated", "sharded"]

SHARDED_FROM = 100_000_000
"""Samples from which on several processes hold the losses in parts, unless told otherwise."""


class Table(Protocol):
    """The losses, and the draw from them."""

    @property
    def columns(self) -> LossTable:
        """The columns that this process holds."""

    @property
    def held(self) -> NDArray[np.int64] | None:
        """The samples of the columns' rows; None: row i is sample i."""

    def histogram(self, before: int, epoch: int) -> LossHistogram:
        """Returns the histogram of all samples, their scores taken anew; does not communicate.

        Args:
            before: The latest epoch that is over; -1: none.
            epoch: The one to begin.
        """

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

    def order(self, mask: NDArray[np.uint8], epoch: int) -> NDArray[np.unsignedinteger[Any]]:
        """Returns the samples of a mask in training order."""

    def digest(self, mask: NDArray[np.uint8]) -> int:
        """Returns a number that is the same on all processes if they draw alike."""

    def share_size(self, kept: int) -> int:
        """Returns how many samples each process trains of so many over all processes."""

    def share(self, order: NDArray[Any], done: int) -> NDArray[Any]:
        """Returns what this process trains of an order, equally many samples on each process.

        Args:
            order: From `order`.
            done: Samples of it that are trained already, over all processes.
        """

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

    def record(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Takes losses; what counts only once it is exchanged is not in the answer."""

    def exchange(self, epoch: int, digests: Sequence[int]) -> int:
        """Closes an epoch: every process learns what it needs of the others' losses.

        Args:
            epoch: The epoch.
            digests: Of the settings and the selection, the same on all processes if they agree.

        Returns:
            How many losses were not finite that were not counted before, over all processes.

        Raises:
            RuntimeError: The processes do not agree, or one of them got nothing to train.
        """

    def visits(self, epoch: int) -> Visits:
        """Returns what the visits of all samples add up to; after `exchange`."""

    def state_dict(self, what: str | None, digests: Sequence[int], copy: bool) -> dict[str, Any]:
        """Returns the columns, and what has not been exchanged yet.

        Args:
            what: The occasion, to gather what the others have not exchanged; None: do not.
            digests: As for `exchange`.
            copy: Copies of the columns, instead of views.
        """

    def load_state_dict(self, states: Sequence[State]) -> Recorded:
        """Goes on from the states of all processes of a run, which may be other than now.

        Returns:
            What counts now and did not in the states.
        """

    def open_mask(self, states: Sequence[State]) -> tuple[NDArray[np.uint8], bool]:
        """Returns the open epoch's mask from states just loaded.

        And whether its order is the saved one; if not, it holds what is still to be trained.
        """

    def open_weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns the open epoch's packed weights from states just loaded; None: all are 1."""
