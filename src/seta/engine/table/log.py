"""The losses that a process has recorded and not yet exchanged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RecordLog:
    """The losses that this process recorded since the last exchange, in their order.

    Args:
        n: Samples of the dataset, for the width of the indices.
    """

    def __init__(self, n: int) -> None:
        self._dtype = np.dtype(np.uint32 if n < 2**32 else np.uint64)
        self.clear()

    def clear(self) -> None:
        """Discards all records."""
        self._parts = [(np.empty(0, self._dtype), np.empty(0, np.float32))]

    def appending(self, indices: NDArray[Any], losses: NDArray[Any]) -> Callable[[], None]:
        """Returns what notes integers (B,) and floats (B,), once, however often it is called."""
        with np.errstate(over="ignore"):
            part = (indices.astype(self._dtype), losses.astype(np.float32))
        return partial(self._put, self._parts, len(self._parts), part)

    @staticmethod
    def _put(parts: list[Any], at: int, part: Any) -> None:
        if len(parts) == at:
            parts.append(part)

    def append(self, indices: NDArray[Any], losses: NDArray[Any]) -> None:
        """Notes integers (B,) and floats (B,), copies of them."""
        self.appending(indices, losses)()

    def __len__(self) -> int:
        """Number of records."""
        return sum(len(indices) for indices, _ in self._parts)

    def arrays(self) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.float32]]:
        """Returns all that was noted: uint32 or uint64 (M,) and float32 (M,)."""
        # The parts stay as they are: one may be about to be noted after them.
        indices, losses = zip(*self._parts, strict=True)
        return np.concatenate(indices), np.concatenate(losses)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Returns copies."""
        indices, losses = self.arrays()
        return {"indices": indices, "losses": losses}
