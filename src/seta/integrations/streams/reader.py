"""From a source's rows to batches of kept samples, in the data-loading workers.

A worker collates whole batches, and sends the rows that it has left over at the end of its shards;
the process that trains makes batches of those. Cost: what the source takes to give out its rows,
all of them, and the collate function for the kept ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from seta.integrations.streams.keep import KeepSet
from seta.integrations.streams.ledger import Ledger
from seta.integrations.streams.sources import Source, rows_of
from seta.torch.dataset import indices_of


class Chunk(NamedTuple):
    """Some samples that came out of the stream.

    Attributes:
        indices: int64, as bytes, see `seta.torch.indices_of`.
        content: A batch; or rows, in a list.
        collated: Which of them.
    """

    indices: bytes
    content: Any
    collated: bool


class Reader(IterableDataset[Chunk]):
    """The kept samples of a source, in chunks: batches, and rows at the beginning and the end.

    Args:
        source: Of rows.
        keep: Which to keep.
        batch_size: Samples per batch.
        collate_fn: rows -> batch.
    """

    def __init__(
        self, source: Source, keep: KeepSet, batch_size: int, collate_fn: Callable[[Any], Any]
    ) -> None:
        self.source, self.keep = source, keep
        self.batch_size, self.collate_fn = batch_size, collate_fn
        self._head = torch.zeros(1, dtype=torch.int64)  # in shared memory, as the keep set
        self._head.share_memory_()  # type: ignore[no-untyped-call]

    def begin_with(self, rows: int) -> None:
        """Makes each worker send so many rows before its first batch."""
        self._head.fill_(rows)

    def __iter__(self) -> Iterator[Chunk]:
        """Reads the source once; in a worker, what the source gives it."""
        keep, indices, rows = self.keep, array("q"), []
        head = int(self._head)
        for row in rows_of(self.source):
            index = keep.index_of(_identity(row, keep.id_column))
            if not keep.has(index):
                continue
            indices.append(index)
            rows.append(row)
            if len(rows) == (head or self.batch_size):
                yield Chunk(indices.tobytes(), rows if head else self.collate_fn(rows), not head)
                indices, rows, head = array("q"), [], 0
        if rows:
            yield Chunk(indices.tobytes(), rows, False)


def as_it_is(chunk: Any) -> Any:
    """Stands for a collate function where there is nothing left to collate."""
    return chunk


def _identity(row: Any, column: str) -> Any:
    """Returns the id of a row.

    Raises:
        TypeError: The row is no mapping with ids.
    """
    if isinstance(row, Mapping) and column in row:
        return row[column]
    found = f"one of {sorted(map(str, row))}" if isinstance(row, Mapping) else type(row).__name__
    raise TypeError(
        f"each row of source must be a mapping with its id as {column!r}, got {found}: keep the id "
        "in the rows, and make tuples or tensors of them in collate_fn"
    )


def batches_of(
    reader: Reader, loader: Iterable[Chunk], ledger: Ledger
) -> Iterator[tuple[bytes, Any]]:
    """Yields the batches of one rank's epoch, each after its indices.

    Args:
        reader: Of the stream.
        loader: Its chunks, from the workers, anew each time.
        ledger: Says how many samples are wanted, and rewrites the keep set.

    Raises:
        RuntimeError: The stream holds nothing.
    """
    wanted, size, collate_fn = ledger.wanted, reader.batch_size, reader.collate_fn
    indices: NDArray[np.int64] = np.empty(0, np.int64)
    rows: list[Any] = []  # left over, of these indices
    for kind in ledger.passes() if wanted else ():
        came = 0
        reader.begin_with(size - len(rows) if rows else 0)
        for packed, content, collated in loader:
            arrived = indices_of(packed)
            ledger.arrive(arrived)
            came += len(arrived)
            if collated:
                wanted -= ledger.give(arrived)
                yield packed, content
            else:
                indices, rows = np.concatenate([indices, arrived]), rows + content
            while 0 < min(size, wanted) <= len(rows):
                batch = min(size, wanted)
                wanted -= ledger.give(indices[:batch])
                yield indices[:batch].tobytes(), collate_fn(rows[:batch])
                indices, rows = indices[batch:], rows[batch:]
            if wanted <= 0:
                return
        if kind == "repeat" and not came:
            raise RuntimeError(ledger.nothing)
    if rows:
        ledger.give(indices)
        yield indices.tobytes(), collate_fn(rows)
