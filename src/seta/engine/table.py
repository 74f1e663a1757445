"""What a `Pruner` asks of the table that holds the losses, whole or this process's part of it.

`ReplicatedTable` holds every sample's loss in each process, `ShardedTable` those of the shards that
the process owns. Each draws from what it holds, and exchanges what the others need to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seta.engine.choose import Choice
from seta.engine.curve import KeepCurve
from seta.engine.histogram import Binning, LossHistogram
from seta.engine.losses import LossTable

State = Mapping[str, Any]
Sharding = Literal["replicated", "sharded"]

SHARDED_FROM = 100_000_000
"""Samples from which on several processes hold the losses in parts, unless told otherwise."""


class Recorded(NamedTuple):
    """What became of losses that were handed over.

    Attributes:
        trained: How many count as trained.
        nonfinite: How many of these were not finite.
    """

    trained: int
    nonfinite: int


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
        self, histogram: LossHistogram, curve: KeepCurve, *, count: int | None, epoch: int
    ) -> Choice:
        """Chooses an epoch's samples among the columns' rows.

        Args:
            histogram: Of all samples.
            curve: The policy's, made for it.
            count: How many samples to choose over all processes; None: as many as the curve says.
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

    def cells_of(self, indices: NDArray[np.integer[Any]], binning: Binning) -> NDArray[np.intp]:
        """Returns the cells of samples by their latest losses: intp (B,)."""

    def record(self, indices: NDArray[Any], losses: NDArray[Any], epoch: int) -> Recorded:
        """Takes losses; what counts only once it is exchanged is not in the answer."""

    def exchange(self, epoch: int, digests: Sequence[int]) -> Recorded:
        """Closes an epoch: every process learns what it needs of the others' losses.

        Args:
            epoch: The epoch.
            digests: Of the settings and the selection, the same on all processes if they agree.

        Returns:
            What counts now and did not when it was recorded, over all processes.

        Raises:
            RuntimeError: The processes do not agree, or one of them got nothing to train.
        """

    def longest_left_out(self, epoch: int) -> int:
        """Returns the most epochs that any sample has not been trained for; after `exchange`."""

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
