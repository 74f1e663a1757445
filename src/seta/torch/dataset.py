"""Wrappers of the user's dataset and collate function that return the indices with each batch.

torch's fetcher, in a worker or in the main process, calls `collate(dataset.__getitems__(indices))`.
`IndexedDataset` returns the rows with their indices, and `IndexedCollate` passes the rows to the
user's own function and returns the indices with the batch. So each batch carries its samples,
whatever order batches arrive in.

If a collate function reorders its rows in place, the indices are reordered too; if it drops rows in
place, an error is raised. Changes to a copy of the rows cannot be seen: then the index must be part
of the sample (`index_key`), or be passed with the losses.

Cost: about 5 microseconds per batch of 128, and 8 bytes per sample from a worker. Pickled, both are
a hundred bytes larger than what they wrap; the loss table is never sent to a worker.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset, get_worker_info


class IndexedRows(NamedTuple):
    """Rows of a dataset, not collated yet, with their indices.

    Attributes:
        indices: Integers (B,), the indices that the rows were fetched by.
        rows: The rows, as the dataset returned them.
    """

    indices: Sequence[int]
    rows: Any


def rows_of(dataset: Any, indices: Sequence[int]) -> Any:
    """Returns the rows of a batch, by the dataset's own `__getitems__` if it has one.

    A `Subset` copies the indices for the dataset below it, which is asked here in its place. What
    other wrappers pass on cannot be seen.

    Raises:
        RuntimeError: It changed the indices in place, such as sorted them: whether its rows are in
            the new order cannot be known.
    """
    if type(dataset) is Subset:
        return rows_of(dataset.dataset, [dataset.indices[index] for index in indices])
    fetch = getattr(dataset, "__getitems__", None)
    if not fetch:
        return [dataset[index] for index in indices]
    given = copy(indices)
    rows = fetch(given)
    if list(given) != list(indices):
        raise RuntimeError(
            f"__getitems__ of {type(dataset).__name__} changed the list of indices that it was "
            "given, so it is not known which row belongs to which sample: sort or change a copy, "
            "sorted(indices), and return the rows in the order of the indices"
        )
    return rows


class IndexedDataset(Dataset[Any]):
    """Wraps a map-style dataset so that its rows come with their indices.

    Use it with `IndexedCollate` in a `DataLoader` of your own.

    Args:
        dataset: The dataset, with `__len__` and `__getitem__`; `__getitems__` is used if present,
            and returns rows in the order of its indices.
            Its `state_dict` and `load_state_dict` (for torchdata) and `set_epoch` (for Accelerate),
            if any, are those of the wrapper.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        for name in ("state_dict", "load_state_dict", "set_epoch"):
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        """Returns `(index, sample)`."""
        return index, self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> IndexedRows:
        """Returns the rows as torch would fetch them, with their indices.

        Raises:
            RuntimeError: The dataset raised StopIteration, which would silently end the epoch, or
                changed the indices, see `rows_of`.
        """
        try:
            return IndexedRows(indices, rows_of(self.dataset, indices))
        except StopIteration as error:
            what = f"{type(self.dataset).__name__}[index]"
            raise RuntimeError(_STOPPED.format(what=what)) from error


class IndexedCollate:
    """Wraps a collate function so that each batch comes with the indices of its samples.

    The indices are packed as bytes, which pass through a worker's queue faster than an array or a
    tensor, and are ignored by torch's pinning thread. `indices_of` unpacks them.

    Args:
        collate_fn: The function to wrap: rows -> batch.
        index_key: Adds the index to each row, a mapping, under this key, and reads the indices from
            the batch. None: the indices follow the order of the rows.
    """

    def __init__(self, collate_fn: Callable[[Any], Any], index_key: str | None = None) -> None:
        self.collate_fn, self.index_key = collate_fn, index_key

    def __call__(self, fetched: Any) -> tuple[bytes, Any]:
        """Returns `(packed indices, batch)` for `IndexedRows`.

        Raises:
            ValueError: The function dropped rows, or the batch lacks `index_key`.
        """
        indices, rows = fetched
        if self.index_key is not None:
            batch = self._collated(_with_index(rows, indices, self.index_key))
            return _read_off(batch, self.index_key, indices).tobytes(), batch
        before = list(rows) if isinstance(rows, list) else None
        batch = self._collated(rows)
        if before is not None:
            indices = followed(indices, before, rows)
        return array("q", indices).tobytes(), batch

    def _collated(self, rows: Any) -> Any:
        try:
            return self.collate_fn(rows)
        except StopIteration as error:
            name = getattr(self.collate_fn, "__name__", type(self.collate_fn).__name__)
            raise RuntimeError(_STOPPED.format(what=name)) from error


_CARRY = (
    "make the index part of the sample: index_key='index' for rows that are mappings; else "
    "return it from the dataset, and call update(losses, indices=...)"
)
_STOPPED = (
    "{what} raised StopIteration, which would silently end the epoch: raise another exception"
)


def followed(indices: Sequence[int], before: Sequence[Any], rows: Sequence[Any]) -> Sequence[int]:
    """Returns the indices in the order that a collate function has put its list of rows into.

    Args:
        indices: Of the rows, in the order of `before`.
        before: The rows as they were handed over.
        rows: The list that was handed over, as it is afterwards.

    Raises:
        ValueError: They are no longer the same rows.
    """
    if len(before) == len(rows) and all(map(is_, before, rows)):
        return indices
    if sorted(map(id, before)) != sorted(map(id, rows)):
        raise ValueError(
            f"collate_fn replaced or dropped rows in its list of {len(before)}, which now has "
            f"{len(rows)}, so their samples are not known: change a copy of the list and keep the "
            f"order, or {_CARRY}"
        )
    waiting: dict[int, list[int]] = {}  # a list: the same object may stand in several places
    for index, row in zip(indices, before, strict=True):
        waiting.setdefault(id(row), []).append(index)
    return [waiting[id(row)].pop(0) for row in rows]


def _with_index(rows: Any, indices: Sequence[int], key: str) -> list[dict[str, Any]]:
    """Returns the rows, each with its index.

    Raises:
        TypeError: A row is no mapping.
    """
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(
                f"index_key={key!r} needs rows that are mappings, got {type(row).__name__}: return "
                "the index from the dataset itself and call update(losses, indices=...)"
            )
        if key in row:
            raise ValueError(
                f"index_key={key!r} must be a key that rows do not have yet, got rows with "
                f"{list(row)}: choose another, such as 'seta_index'"
            )
    return [{**row, key: index} for row, index in zip(rows, indices, strict=True)]


def _read_off(batch: Any, key: str, fetched: Sequence[int]) -> NDArray[np.int64]:
    """Returns the indices that a batch carries, some of those that were fetched.

    Raises:
        ValueError: It carries none, or others.
    """
    values = batch.get(key) if isinstance(batch, Mapping) else None
    if values is None:
        found = f"a batch with {list(batch)}" if isinstance(batch, Mapping) else type(batch)
        raise ValueError(
            f"collate_fn must keep the key index_key={key!r} of its rows, got {found}: set "
            f"batch[{key!r}] = torch.tensor([row[{key!r}] for row in rows])"
        )
    array_ = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not array_.size:  # all rows were dropped, and torch.tensor([]) is of floats
        return np.empty(0, np.int64)
    if array_.dtype.kind not in "iu" or array_.ndim != 1:
        raise ValueError(
            f"batch[{key!r}] must be one integer for each sample, got {array_.dtype} of shape "
            f"{array_.shape}: make it torch.tensor([row[{key!r}] for row in rows])"
        )
    if not np.isin(array_, fetched).all():
        raise ValueError(
            f"batch[{key!r}] must be of the indices of its rows, {list(fetched)}, got "
            f"{array_.tolist()}: pass on the key of each row unchanged"
        )
    return array_.astype(np.int64)


class WorkerInit:
    """A `worker_init_fn` after which `get_worker_info().dataset` is the user's own dataset.

    Args:
        function: The user's; None: none.
    """

    def __init__(self, function: Callable[[int], None] | None) -> None:
        self.function = function

    def __call__(self, worker: int) -> None:
        """Runs in a worker, before its first batch."""
        info: Any = get_worker_info()
        dataset = info.dataset
        if isinstance(dataset, IndexedDataset):
            object.__setattr__(info, "dataset", dataset.dataset)  # it refuses assignments
        if self.function is not None:
            self.function(worker)


def indices_of(packed: Any) -> NDArray[np.int64]:
    """Returns the indices of a batch as an array: int64 (B,), read-only if they were packed.

    Args:
        packed: Bytes from `IndexedCollate`; or integers (B,), a tensor, array or list.

    Raises:
        TypeError: `packed` is something else.
    """
    if isinstance(packed, bytes):
        return np.frombuffer(packed, np.int64)
    array_ = packed.cpu().numpy() if isinstance(packed, Tensor) else np.asarray(packed)
    if array_.ndim != 1 or array_.dtype.kind not in "iu":
        raise TypeError(
            "each batch has to come after the indices of its samples, as (indices, batch), packed "
            f"by IndexedCollate or integers (B,), got {type(packed).__name__}"
        )
    return array_.astype(np.int64)
