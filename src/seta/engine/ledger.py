"""The ledger of a run: the rows of its epochs, and what was trained in all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from seta.engine.arguments import Listener
from seta.engine.exchange import refuse_dealt_again
from seta.engine.losses import Recorded, Visits
from seta.engine.rows import Row, close_row


class Ledger:
    """What was trained, and when.

    Args:
        listeners: Called with the row of each epoch that ends.

    Attributes:
        history: The rows of the epochs that are over.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners
        self.history: list[Row] = []
        self._trained = self._full = 0  # visits; and those of full training, in the epochs over
        self._clock = 0.0
        self._given = self._came = self._largest = 0

    def begin(self, row: Row, started: float) -> None:
        """Notes that an epoch has begun, whose choice was started at a time of `perf_counter`."""
        self._given = self._came = self._largest = 0
        self._clock = time.perf_counter()
        row["select_seconds"] = self._clock - started

    def record(self, row: Row, losses: int, recorded: Recorded) -> None:
        """Notes that losses came, and what became of them."""
        self.count(row, recorded)
        self._came += losses
        self._largest = max(self._largest, losses)
        now = time.perf_counter()
        row["train_seconds"] += now - self._clock
        self._clock = now

    def count(self, row: Row, recorded: Recorded) -> None:
        """Notes what counts as trained now."""
        row["trained"] += recorded.trained
        row["nonfinite"] += recorded.nonfinite
        self._trained += recorded.trained

    def walked(self, given: int) -> None:
        """Notes that so many samples were given out, all of this rank's share."""
        self._given = given

    @property
    def came(self) -> int:
        """Losses of the open epoch that were recorded by this process."""
        return self._came

    def check_share(self, size: int) -> None:
        """Raises if the share came back as if dealt out among so many ranks again.

        Raises:
            RuntimeError: It did.
        """
        if self._given:
            refuse_dealt_again(self._came, self._given, self._largest, size)

    def close(self, row: Row, visits: Visits, full: int) -> None:
        """Notes that an epoch is over, of which full training would have trained `full` samples."""
        self._full += full
        self._trained += visits.trained - row["trained"]
        close_row(row, 1 - self._trained / self._full, visits)
        self.history.append(row)

    def tell(self, row: Row) -> None:
        """Hands a row to the listeners."""
        for listener in self._listeners:
            listener(dict(row))

    def saved(self, open_samples: int) -> float:
        """Returns the share of full training's visits saved; of an open epoch with its samples."""
        full = self._full + open_samples
        return 1 - self._trained / full if full else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Returns all of it that a state holds."""
        return {
            "trained": self._trained,
            "full": self._full,
            "history": [dict(row) for row in self.history],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._trained, self._full = int(saved["trained"]), int(saved["full"])
        self.history = [dict(row) for row in saved["history"]]
        self._given = self._came = self._largest = 0
        self._clock = time.perf_counter()
