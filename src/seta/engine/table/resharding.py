"""Loads a process's part of a sharded table from a state saved by any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.draw.partition import Partition

State = Mapping[str, Any]


@dataclass(frozen=True)
class Resharding:
    """Takes the shards of one process out of the states of all that saved.

    Attributes:
        partition: Which sample is where.
        shards: Those of this process.
    """

    partition: Partition
    shards: range

    def overlap(self, table: Mapping[str, Any], per_row: int = 1) -> tuple[slice, slice]:
        """Returns where the shards of a saved table, which are this process's, are here, and there.

        Args:
            table: Of the state of one process.
            per_row: Rows in an entry of the arrays that are meant: 8 of a bit mask.
        """
        first, last = table["shards"]
        start = max(first, self.shards.start)
        stop = max(start, min(last, self.shards.stop))
        length = self.partition.length // per_row
        return (
            slice((start - self.shards.start) * length, (stop - self.shards.start) * length),
            slice((start - first) * length, (stop - first) * length),
        )

    def at(
        self, slots: NDArray[np.int64], tables: Sequence[State], name: str
    ) -> NDArray[np.float32]:
        """Returns what a column of the saved tables, which are all shards, has at some slots."""
        found = np.empty(len(slots), np.float32)
        for table in tables:
            own = self.partition.slots(range(*table["shards"]))
            inside = (slots >= own.start) & (slots < own.stop)
            found[inside] = table[name][slots[inside] - own.start]
        return found

    @property
    def _bytes(self) -> int:
        """Bytes of a bit mask of its rows."""
        return len(self.partition.slots(self.shards)) // 8

    def rest(self, states: Sequence[State]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Returns what of the open epoch is left to train.

        Returns:
            The mask of its rows, and what each shard of all has left: int64 (shards,).
        """
        mask = np.zeros(self._bytes, np.uint8)
        counts = np.zeros(self.partition.shards, np.int64)
        logged = [state["table"]["log"]["indices"] for state in states]
        trained = self.partition.slot_of(np.concatenate(logged).astype(np.int64))
        for state in states:
            rest = self._rest_of(state, trained)
            first, last = state["table"]["shards"]
            bits = np.unpackbits(rest.reshape(last - first, -1), axis=1)
            counts[first:last] = bits.sum(axis=1, dtype=np.int64)
            here, there = self.overlap(state["table"], per_row=8)
            mask[here] = rest[there]
        return mask, counts

    def _rest_of(self, state: State, trained: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns what a state's part of the mask has left to train: a mask of its rows."""
        table = state["table"]
        done = np.asarray(table["last_trained"]) == int(state["open"]["row"]["epoch"]) + 1
        slots = self.partition.slots(range(*table["shards"]))
        inside = trained[(trained >= slots.start) & (trained < slots.stop)]
        done[inside - slots.start] = True
        rest: NDArray[np.uint8] = np.asarray(state["open"]["mask"]) & ~np.packbits(done)
        return rest

    def masked(self, states: Sequence[State]) -> NDArray[np.uint8]:
        """Returns the mask of its rows in the open epoch, as it was saved."""
        mask = np.empty(self._bytes, np.uint8)
        for state in states:
            here, there = self.overlap(state["table"], per_row=8)
            mask[here] = state["open"]["mask"][there]
        return mask

    def weights(self, states: Sequence[State]) -> NDArray[np.uint8] | None:
        """Returns the packed weights of its rows in the open epoch; None: all are 1."""
        saved = [state["open"]["weights"] for state in states]
        if saved[0] is None:
            return None
        weights = np.empty((len(saved[0]), self._bytes), np.uint8)
        for state, part in zip(states, saved, strict=True):
            here, there = self.overlap(state["table"], per_row=8)
            weights[:, here] = part[:, there]
        return weights
