"""The index of a sample inside its batch, and the order of an epoch.

The indices go as bytes under a key of the batch: Accelerate and `Trainer` move tensors to the
device and leave bytes where they are, so nothing has to be fetched back from there. The key is put
in after the user's collate function and the removal of columns, and taken out before the model.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.arguments import Reorder

INDICES = "seta_indices"
LENGTHS = "seta_lengths"


class IndexedBatch:
    """A collate function for `IndexedDataset` that puts the indices into the user's batch.

    Where the batch is one flattened row of several sequences, their lengths go with it.

    Args:
        collate_fn: The user's own: rows -> dict.
    """

    def __init__(self, collate_fn: Callable[[Any], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, fetched: Any) -> Any:
        """Returns the user's batch, with the indices of its rows.

        Raises:
            TypeError: It is no dict.
        """
        indices, rows = fetched
        lengths = _lengths_of(rows)
        batch = self.collate_fn(rows)
        if not isinstance(batch, MutableMapping):
            raise TypeError(
                f"data_collator must return a dict, got {type(batch).__name__}: Trainer calls "
                "model(**batch), and the indices of the samples travel in it"
            )
        batch[INDICES] = array("q", indices).tobytes()
        ids: Any = batch.get("input_ids")
        if lengths is not None and getattr(ids, "ndim", 0) == 2 and len(ids) == 1:
            batch[LENGTHS] = lengths
        return batch


def _lengths_of(rows: Any) -> list[int] | None:
    """Returns the tokens of each of several rows; None for one, and for rows without tokens."""
    if len(rows) < 2 or not all(isinstance(row, Mapping) and "input_ids" in row for row in rows):
        return None
    return [len(row["input_ids"]) for row in rows]


def by_length(lengths: Sequence[int], group: int) -> Reorder:
    """Returns what puts samples of like length side by side, as `Trainer` does it.

    An epoch's random order is cut into pieces of up to 50 groups, each sorted, longest first.

    Args:
        lengths: Of all samples.
        group: Samples of one optimizer step.
    """
    table = np.asarray(lengths)

    def reorder(indices: NDArray[Any]) -> NDArray[Any]:
        piece = group * max(1, min(len(indices) // (4 * group), 50))
        parts = [indices[at : at + piece] for at in range(0, len(indices), piece)]
        return np.concatenate([part[np.argsort(-table[part], kind="stable")] for part in parts])

    return reorder
