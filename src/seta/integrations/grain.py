"""Grain: the samples of an epoch as a data source, and the batches of a pipeline over it.

    while pruner.next_epoch < pruner.epochs:
        pipeline = grain.MapDataset.source(Kept(pruner, records)).batch(50).to_iter_dataset()
        for indices, weights, batch in batches(pruner, pipeline):
            losses = step(batch, weights)
            pruner.record(indices, losses)
        pruner.end_epoch()

Each record travels with its index, through threads and worker processes. The records of an epoch
are read in the order of the plan, so that every batch can be compared with it: a pipeline of
another epoch, one that shuffles, shards or drops samples is noticed at its first wrong batch.

Imports neither Grain nor JAX. Cost: 4 bytes per kept sample in the process and in each of Grain's
workers, and some microseconds per batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from seta.engine import Pruner
from seta.engine.draw.selection import Selection

__all__ = ["Kept", "batches"]

_CHANGING = ("Shuffle", "Repeat", "Mixed")
"""In the names of the datasets of Grain that have another sample at an index in each epoch."""


class Kept:
    """The samples that this process trains in the open epoch: a data source for Grain.

    A sequence of pairs (index, record), in training order: give it to `grain.MapDataset.source` or,
    as `data_source`, to `grain.DataLoader`. Begins an epoch if none is open; after a resume it is
    the rest of the epoch, if the state has a position (`done`). Make a new one for each epoch.

    Args:
        pruner: Selects the samples.
        records: The training data, with `len` and `records[i]`: a `grain.MapDataset` or any other
            data source. Random transforms of a `MapDataset` differ in each epoch; they depend on
            its seed, the epoch and the index only.

    Raises:
        TypeError: `records` has no random access.
        ValueError: It has another number of samples than the pruner, or it shuffles, repeats or
            mixes, so that an index is another sample in each epoch.
    """

    def __init__(self, pruner: Pruner, records: Any) -> None:
        _check_records(records, pruner.n)
        share = pruner.share()
        self._records, self._indices = records, share.indices
        self._epoch, self._n = share.epoch, pruner.n
        # A MapDataset has a sample once in each epoch: i, n + i, 2n + i, ...
        self._first = share.epoch * pruner.n if hasattr(records, "parents") else 0

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[int, Any]:
        """Returns (index, record).

        Raises:
            ValueError: The record is None, as one that a filter leaves out.
        """
        index = int(self._indices[position])
        record = self._records[self._first + index]
        if record is None:
            raise ValueError(
                f"records[{index}] is None, as a record that a filter leaves out: filter before "
                "the pruner is made, and give it the number of records that stay"
            )
        return index, record

    def __repr__(self) -> str:
        """Returns what tells it from others; a state of `grain.DataLoader` compares it."""
        digest = crc32(self._indices.tobytes())
        return f"Kept(epoch {self._epoch}: {len(self)} of {self._n} samples, {digest:08x})"


def batches(
    pruner: Pruner, pipeline: Iterable[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], Any]]:
    """Returns an iterator over the batches of a pipeline, compared with the plan of the epoch.

    Like `seta.batches`, it records nothing and ends no epoch.

    Args:
        pruner: The pruner of the pipeline's `Kept`.
        pipeline: Yields pairs (indices, batch) of `pruner.sizes.batch_size` samples. Give an
            iterator, `iter(pipeline)`, to save its position with `get_state()`.

    Returns:
        Iterator over `(indices, weights, batch)`, int64 (B,) and float32 (B,). The loss of the
        batch is `(weights * losses).mean()`.

    Raises:
        TypeError: Raised by the iterator for elements of another form.
        RuntimeError: Raised by the iterator for a batch that is not the next one of the plan, at
            the end if samples are missing, or if the epoch has ended meanwhile.
    """
    return _walk(pruner, pruner.share(), pipeline)


def _walk(
    pruner: Pruner, share: Selection, pipeline: Iterable[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], Any]]:
    size, at = pruner.sizes.batch_size, 0
    elsewhere = pruner.resumed and not pruner.done  # Grain's own state may have skipped batches
    for element in pipeline:
        indices, batch = _parts(element)
        if pruner.epoch != share.epoch:
            raise RuntimeError(
                f"these are the batches of epoch {share.epoch}, which has ended: make the pipeline "
                "and call batches() again for each epoch, and end_epoch() after the loop over them"
            )
        if elsewhere:
            at = _position(share, indices, size)
            elsewhere = False
        planned = share[at : at + size]
        if not np.array_equal(indices, planned):
            raise RuntimeError(
                f"after {at} of the {len(share)} samples of epoch {share.epoch}, the pipeline must "
                f"yield the next batch of the plan, {_listed(planned)}, got {_listed(indices)}. "
                f"{_REMEDY}"
            )
        at += len(indices)
        weights = pruner.weights_of(indices)
        yield indices, np.ones(len(indices), np.float32) if weights is None else weights, batch
    # Grain's state may be that after the last batch: then no batch says where it is.
    over = elsewhere and not pruner.left_out[share.indices].any()
    if at < len(share) and not over:
        raise RuntimeError(
            f"the pipeline ended after {at} of the {len(share)} samples of epoch {share.epoch}. "
            f"{_REMEDY}"
        )


_REMEDY = (
    "Make a new pipeline of Kept(pruner, records) for each epoch, with batches of the pruner's "
    "batch_size; let it neither shuffle nor shard (NoSharding()), which the pruner does, nor "
    "drop_remainder; with worker processes, call batch() before to_iter_dataset(), since a "
    "DataLoader with workers makes batches in each of them. After a resume, give done= to "
    "state_dict, or load the state of Grain's iterator, not both"
)


def _position(share: Selection, indices: NDArray[np.int64], size: int) -> int:
    """Returns where in the share a batch begins; 0 if it is none of its batches."""
    found = np.flatnonzero(share.indices == indices[0])
    return int(found[0]) if len(found) and not found[0] % size else 0


def _parts(element: Any) -> tuple[NDArray[np.int64], Any]:
    """Returns the indices and the batch of an element.

    Raises:
        TypeError: It has another form.
    """
    if isinstance(element, (tuple, list)) and len(element) == 2:
        indices = np.asarray(element[0])
        if indices.ndim == 1 and indices.size and indices.dtype.kind in "iu":
            return indices.astype(np.int64), element[1]
    raise TypeError(
        "the pipeline must yield pairs (indices, batch), with integers (B,), got "
        f"{type(element).__name__}: batch the pairs (index, record) of Kept, and apply functions "
        "of a record before it: Kept(pruner, grain.MapDataset.source(source).map(function))"
    )


def _check_records(records: Any, n: int) -> None:
    """Raises if `records` are not the samples that the pruner counts, by their indices."""
    kind = type(records).__name__
    if not hasattr(records, "__getitem__") or not hasattr(records, "__len__"):
        raise TypeError(
            f"records must have len() and records[i], got {kind}: samples are chosen by their "
            "index, so give the MapDataset, before to_iter_dataset()"
        )
    if len(records) != n:
        raise ValueError(
            f"records must be the {n} samples that the pruner was made for, got {kind} of "
            f"{len(records)}: give all of them, once, without repeat, batch or a shard of them"
        )
    for node in _upstream(records):
        if any(word in type(node).__name__ for word in _CHANGING):
            raise ValueError(
                f"records must have the same sample at an index in each epoch, got "
                f"{type(node).__name__} among its parts: the pruner shuffles and repeats. Leave "
                "shuffle and repeat out; join datasets by grain.MapDataset.concatenate"
            )


def _upstream(records: Any) -> Iterator[Any]:
    """Yields a dataset of Grain and those that it is made of."""
    yield records
    for parent in getattr(records, "parents", ()):
        yield from _upstream(parent)


def _listed(indices: NDArray[Any]) -> str:
    if not len(indices):
        return "no more samples"
    shown = ", ".join(map(str, indices[:4].tolist()))
    return f"samples {shown}{', ...' if len(indices) > 4 else ''} ({len(indices)})"
