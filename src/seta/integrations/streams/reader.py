"""From a source's rows to batches of kept samples, in the data-loading workers.

A worker collates whole batches, and sends the rows that it has left over at the end of its shards;
the process that trains makes batches of those. A collate function is followed as in
`seta.torch.dataset`. Cost: what the source takes to give out its rows, all of them, and the collate
function for the kept ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from seta.integrations.streams.keep import KeepSet
from seta.integrations.streams.ledger import Ledger
from seta.integrations.streams.sources import Source, rows_of
from seta.torch.dataset import IndexedCollate, WorkerInit, indices_of


class Chunk(NamedTuple):
    """Some samples that came out of the stream.

    Attributes:
        indices: int64, as bytes, see `indices_of`.
        content: A batch, after the packed indices in the order that it has them in; or rows.
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
        collate: rows, with their indices -> batch, after its own.
    """

    def __init__(
        self, source: Source, keep: KeepSet, batch_size: int, collate: IndexedCollate
    ) -> None:
        self.source, self.keep, self.batch_size, self.collate = source, keep, batch_size, collate
        # Rows before the first batch, and the epoch; in shared memory, as the keep set.
        self._begun = torch.zeros(2, dtype=torch.int64, device="cpu")
        self._begun.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, epoch: int, rows: int) -> None:
        """Prepares a reading in an epoch: each worker sends so many rows before its first batch."""
        self._begun.copy_(torch.tensor([rows, epoch]))
        self._set_epoch()

    def _set_epoch(self) -> None:
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(int(self._begun[1]))

    def __iter__(self) -> Iterator[Chunk]:
        """Reads the source once; in a worker, what the source gives it."""
        keep, indices, rows = self.keep, array("q"), []
        head = int(self._begun[0])
        if get_worker_info():  # one that stays has the source of an earlier epoch
            self._set_epoch()
        for row in rows_of(self.source):
            index = keep.index_of(_identity(row, keep.id_column))
            if not keep.has(index):
                continue
            indices.append(index)
            rows.append(row)
            if len(rows) == (head or self.batch_size):
                content = rows if head else self.collate((indices, rows))
                yield Chunk(indices.tobytes(), content, not head)
                indices, rows, head = array("q"), [], 0
        if rows:
            yield Chunk(indices.tobytes(), rows, False)


class SourceInit(WorkerInit):
    """A `worker_init_fn` after which `get_worker_info().dataset` is the user's own source."""

    def __call__(self, worker: int) -> None:
        """Runs in a worker, before its first row."""
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.source)  # it refuses assignments
        super().__call__(worker)


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
    reader: Reader, loader: Iterable[Chunk], ledger: Ledger, epoch: int
) -> Iterator[tuple[bytes, Any]]:
    """Yields the batches of one rank's epoch, each after its indices; all that are wanted.

    Args:
        reader: Of the stream.
        loader: Its chunks, from the workers, anew each time.
        ledger: Says how many samples are wanted, and rewrites the keep set.
        epoch: The same for all readings: a source may give each rank another part in each epoch.

    Raises:
        RuntimeError: The stream holds nothing.
    """
    wanted, full = ledger.wanted, ledger.full
    indices = array("q")
    rows: list[Any] = []  # left over, of these indices
    for kind in ledger.passes() if wanted else ():
        if kind == "fill":
            wanted += -wanted % full  # a batch that has to be filled up is a full one
        came = 0
        reader.begin(epoch, full - len(rows) if rows else 0)
        chunks = iter(loader)
        for packed, content, collated in chunks:
            arrived = indices_of(packed)
            ledger.arrive(arrived)
            came += len(arrived)
            if collated:
                wanted -= ledger.give(arrived)
                _read_on(chunks, ledger, wanted)
                yield content
            else:
                indices.frombytes(packed)
                rows += content
            while 0 < (size := min(full, wanted)) <= len(rows):
                batch = reader.collate((indices[:size], rows[:size]))
                wanted -= ledger.give(np.array(indices[:size]))
                _read_on(chunks, ledger, wanted)
                del indices[:size], rows[:size]
                yield batch
            if wanted <= 0:
                return
        if kind == "repeat" and not came:
            raise RuntimeError(ledger.nothing)


def _read_on(chunks: Iterator[Chunk], ledger: Ledger, wanted: int) -> None:
    """Reads to the end when nothing is wanted any more, if no reading did: each id comes once.

    What was planned is there by then, so nothing more is decoded, except where a rank's part holds
    too much of the plan.

    Raises:
        RuntimeError: An id came twice.
    """
    if wanted <= 0 and not ledger.checked:
        for packed, _, _ in chunks:
            ledger.arrive(indices_of(packed))
        ledger.read_to_the_end()
