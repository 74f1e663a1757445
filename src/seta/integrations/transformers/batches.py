"""The indices of the samples in a batch, and the order of an epoch.

The indices are bytes under a key of the batch: Accelerate and `Trainer` move tensors to the device
and leave bytes on the CPU, where they are needed. The key is added after the user's collate
function and the removal of unused columns, and removed before the training step.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seta.engine.arguments import Reorder
from seta.torch.dataset import IndexedCollate, IndexedRows, indices_of

INDICES = "seta_indices"
LENGTHS = "seta_lengths"

Place = tuple[Any, ...]
"""The keys that lead to a value in nested dicts and lists."""

Parts = dict[Place, tuple[Any, int]]
"""The values of a batch by place, and the versions that tensors came with."""


@dataclass
class TrainedBatch:
    """The batch that is being trained.

    Attributes:
        indices: int64 (B,), its samples.
        lengths: Their tokens, if it is flattened.
        label_names: The keys of its labels.
        answered: Whether their losses were recorded, or left out on purpose.
        done: Whether `update` recorded all of them, or `skip` left them out.
        updated: The samples, in or out of the batch, that `update` recorded.
        weighted: The losses made of them, where weights of the policy other than 1 went in.
        losses: Those to record when the step is over: float (B,).
        parts: Its tensors and other values, as it came.
        views: The same of other inputs that are said to be its rows.
        found: Whether a loss was computed of the batch as it came.
        labels_tell: Whether inputs with its labels are its rows: not where the collate function
            uses a tensor again for the labels of each batch.
    """

    indices: NDArray[np.int64]
    lengths: list[int] | None
    label_names: Collection[str] = ("labels",)
    answered: bool = False
    done: bool = False
    updated: list[NDArray[np.int64]] = field(default_factory=list)
    weighted: list[Tensor] = field(default_factory=list)
    losses: Tensor | None = None
    parts: Parts = field(default_factory=dict)
    views: list[Parts] = field(default_factory=list)
    found: bool = False
    labels_tell: bool = True

    def comes_as(self, inputs: Any) -> None:
        """Notes the values of the batch, as they are now."""
        self.parts = _noted(inputs)

    def is_seen_as(self, inputs: Any) -> None:
        """Notes inputs that are rows of the batch, though it cannot be told from their values."""
        self.views.append(_noted(inputs))

    def takes(self, inputs: Any) -> bool:
        """Returns whether the loss of these inputs is one of the batch.

        A step may compute several losses, of the same rows or of others, such as replayed ones,
        which have no indices. The losses of the first inputs of the batch are recorded, in place of
        those of inputs that were only made of it.
        """
        if self.done:
            return False
        if not _equals(self.parts, inputs):
            return self._goes_into(inputs) or any(_equals(view, inputs) for view in self.views)
        if not self.found:
            self.losses, self.found = None, True
        return True

    def moved(self, inputs: Any, prepared: Any) -> None:
        """Follows inputs, as they were noted before, to where they were moved."""
        given = dict(parts_of(prepared))

        def same(at: Place, one: Any) -> bool:
            return at in given and _equal(given[at], one)

        if self._keeps(self.parts, same) and _equals(self.parts, inputs):
            self.comes_as(prepared)
        elif self._goes_into(inputs) and self._keeps(_noted(inputs), same):
            self.is_seen_as(prepared)

    @property
    def labels(self) -> list[Tensor]:
        """The tensors of its labels."""
        return [one for at, (one, _) in self.parts.items() if self._labelled(at, one)]

    def _labelled(self, at: Place, one: Any) -> bool:
        return isinstance(one, Tensor) and any(name in self.label_names for name in at)

    def _goes_into(self, inputs: Any) -> bool:
        """Returns whether inputs have the labels of the batch, or all else of it, unchanged.

        An augmented image beside the same labels, for example.
        """
        given = dict(parts_of(inputs))
        tensors = [one for one in given.values() if isinstance(one, Tensor)]

        def goes(at: Place, one: Any) -> bool:
            if isinstance(one, Tensor):  # which may have another key now
                return any(_same_rows(tensor, one) for tensor in tensors)
            return at in given and _equal(given[at], one)

        return self._keeps(self.parts, goes)

    def _keeps(self, parts: Parts, keeps: Callable[[Place, Any], bool]) -> bool:
        """Returns whether all labels that are tensors are kept, or all else is."""
        labels: list[bool] = []
        others: list[bool] = []
        for at, (one, version) in parts.items():
            kept = _version(one) == version and keeps(at, one)
            (labels if self._labelled(at, one) else others).append(kept)
        telling = (labels, others) if self.labels_tell else (others,)
        return any(kept and all(kept) for kept in telling)

    def answer(self, loss: Tensor, weights: NDArray[np.float32] | None) -> Tensor:
        """Takes the loss made of the recorded ones with these weights, and returns it."""
        self.answered = True
        if weights is not None and (weights != 1).any():
            self.weighted.append(loss)
        return loss

    def pending(self) -> tuple[NDArray[np.int64], Tensor] | None:
        """Returns the samples that `update` did not record, and their losses; None: no losses."""
        if self.losses is None or not self.updated:
            return None if self.losses is None else (self.indices, self.losses)
        left = ~np.isin(self.indices, np.concatenate(self.updated))
        return self.indices[left], self.losses[torch.from_numpy(left).to(self.losses.device)]


def parts_of(inputs: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yields what is in dicts, lists and tuples, each with the keys that lead to it."""
    if isinstance(inputs, Mapping | list | tuple):
        items = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs)
        for key, value in items:
            yield from parts_of(value, (*at, key))
    else:
        yield at, inputs


def _noted(inputs: Any) -> Parts:
    """Returns the values of inputs, as they are now."""
    return {at: (one, _version(one)) for at, one in parts_of(inputs)}


def _equals(parts: Parts, inputs: Any) -> bool:
    """Returns whether inputs have all these values, which did not change since they were noted."""
    given = dict(parts_of(inputs))
    return bool(parts) and all(
        _version(one) == version and at in given and _equal(given[at], one)
        for at, (one, version) in parts.items()
    )


def _version(value: Any) -> int:
    """Returns how often a tensor was changed in place; 0 for anything else."""
    tracked = isinstance(value, Tensor) and not value.is_inference()
    return value._version if tracked else 0


def _equal(some: Any, other: Any) -> bool:
    """Returns whether two values are known to be equal: not where they cannot be compared."""
    if some is other:
        return True
    try:
        if not (isinstance(some, Tensor) and isinstance(other, Tensor)):
            return bool(some == other)
        other = other.to(some.device)
        both_nan = (some != some) & (other != other)
        return some.shape == other.shape and bool(((some == other) | both_nan).all())
    except Exception:  # sparse and nested tensors, arrays, classes of others
        return False


def _same_rows(some: Tensor, other: Tensor) -> bool:
    """Returns whether a tensor is another, or shows a part of each of its rows, in their order."""
    if some is other:
        return True
    try:
        begin = some.storage_offset() - other.storage_offset()
        rows = (some.shape[:1], some.stride()[:1]) == (other.shape[:1], other.stride()[:1])
        within = 0 <= begin <= _extent(other) - _extent(some)
        shared = some.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        return some.ndim > 0 and rows and within and shared
    except Exception:  # sparse and nested tensors
        return False


def _extent(tensor: Tensor) -> int:
    """Returns how far the last element of a row lies behind its first one in memory."""
    sizes = zip(tensor.shape[1:], tensor.stride()[1:], strict=True)
    return sum((size - 1) * stride for size, stride in sizes)


def _same_memory(some: Tensor, other: Tensor) -> bool:
    """Returns whether two tensors begin in the same place."""
    try:
        return some is other or some.data_ptr() == other.data_ptr()
    except Exception:  # sparse and nested tensors
        return False


def reordered(given: Any, inputs: Any) -> bool:
    """Returns whether inputs are given ones, with their rows in another order.

    Tensors are paired by their last keys, and rows told apart by a weighted sum.
    """
    found = {at[-1]: one for at, one in parts_of(inputs) if isinstance(one, Tensor)}
    pairs = [
        (one, found[at[-1]])
        for at, one in parts_of(given)
        if isinstance(one, Tensor) and at[-1] in found
    ]
    pairs = [(one, other) for one, other in pairs if one.shape == other.shape and one.ndim]
    changed = [_sums(*pair) for pair in pairs if not _equal(*pair)]
    return bool(changed) and all(
        torch.allclose(one.sort()[0], other.sort()[0]) for one, other in changed
    )


def _sums(*tensors: Tensor) -> list[Tensor]:
    rows = [tensor.detach().double().reshape(len(tensor), -1) for tensor in tensors]
    weights = 2 + torch.arange(rows[0].shape[1], dtype=torch.double).cos()
    return [row @ weights.to(row.device) for row in rows]


def taken(
    inputs: Any, label_names: Collection[str], last_labels: Collection[Tensor] = ()
) -> tuple[TrainedBatch, Any]:
    """Takes out of a batch what travels in it, and leaves the batch as it is.

    Args:
        inputs: The batch.
        label_names: The keys of its labels.
        last_labels: The tensors of the batch before it.

    Returns:
        What travelled, and a copy of the batch for the model.

    Raises:
        RuntimeError: It has lost its indices.
    """
    if INDICES not in inputs:
        raise RuntimeError(
            f"the batch has no {INDICES!r}, got {list(inputs)}: code between the loader and the "
            "training step makes a new batch without it. Keep all keys of the batch"
        )
    inputs = copy.copy(inputs)
    indices = indices_of(inputs.pop(INDICES))
    batch = TrainedBatch(indices, inputs.pop(LENGTHS, None), label_names)
    batch.comes_as(inputs)
    batch.labels_tell = not any(
        _same_memory(one, last) for one in batch.labels for last in last_labels
    )
    return batch, inputs


def unchanged(rows: Any) -> Any:
    """Returns the rows as they are."""
    return rows


class IndexedBatch:
    """A collate function for `IndexedDataset` that puts the indices into the user's batch.

    Where the batch is one flattened row of several sequences, their lengths go with it.

    Args:
        collate_fn: The user's own: rows -> dict.
        index_key: See `IndexedCollate`; it is taken out of the batch.
        strip: Takes unused columns out of the rows first: rows -> rows.
    """

    def __init__(
        self,
        collate_fn: Callable[[Any], Any],
        index_key: str | None = None,
        strip: Callable[[Any], Any] = unchanged,
    ) -> None:
        self._collate, self._strip = IndexedCollate(collate_fn, index_key), strip

    def __call__(self, fetched: IndexedRows) -> Any:
        """Returns the user's batch, with the indices of its rows.

        Raises:
            TypeError: It is no dict.
            ValueError: It is not known which of its rows is which sample.
        """
        rows = self._strip(fetched.rows)
        lengths = _lengths_of(rows)
        packed, batch = self._collate(IndexedRows(fetched.indices, rows))
        if not isinstance(batch, MutableMapping):
            raise TypeError(
                f"data_collator must return a dict, got {type(batch).__name__}: Trainer calls "
                "model(**batch), and the batch carries the indices of its samples"
            )
        if self._collate.index_key is not None:
            del batch[self._collate.index_key]
        batch[INDICES] = packed
        ids: Any = batch.get("input_ids")
        if lengths is not None and getattr(ids, "ndim", 0) == 2 and len(ids) == 1:
            row_of = dict(zip(fetched.indices, rows, strict=True))
            there = [row_of[int(index)]["input_ids"] for index in indices_of(packed)]
            batch[LENGTHS] = in_batch(there, batch)
        return batch


def _lengths_of(rows: Any) -> list[int] | None:
    """Returns the tokens of each of several rows; None for one, and for rows without tokens."""
    if len(rows) < 2 or not all(isinstance(row, Mapping) and "input_ids" in row for row in rows):
        return None
    return [len(row["input_ids"]) for row in rows]


def in_batch(rows: Sequence[Any], batch: Mapping[str, Any]) -> list[int]:
    """Returns how many tokens each row has in a flattened batch.

    Args:
        rows: The tokens of its rows, in its order, as they came from the dataset.
        batch: With these, or with others, if the collate function pads at the end, adds some to
            each row, or cuts rows; then the positions tell where rows begin.

    Raises:
        ValueError: It is not known where.
    """
    ids, lengths = batch["input_ids"][0], [len(row) for row in rows]
    tokens, came = len(ids), torch.cat([torch.as_tensor(row) for row in rows])
    surplus = tokens - len(came)
    positions, labels = batch.get("position_ids"), batch.get("labels")
    as_they_came = _equal(ids[: len(came)], came)  # positions of packed texts are no rows'
    if not as_they_came and isinstance(positions, Tensor) and positions.shape[-1] == tokens:
        begins = (positions.reshape(-1, tokens)[0] == 0).nonzero()[:, 0].tolist()
        begins, others = begins[: len(lengths)], begins[len(lengths) :]
        found = [stop - start for start, stop in pairwise([*begins, tokens])]
        padding = all(at >= tokens - surplus for at in others)
        known = not others or (padding and all(map(operator.ge, found, lengths)))
        if known and len(found) == len(lengths) and begins[:1] == [0]:
            return found
    if surplus == 0:
        return lengths
    if surplus > 0 and (
        not isinstance(labels, Tensor) or bool((labels[..., -surplus:] == -100).all())
    ):
        return lengths  # padding at the end
    raise ValueError(
        f"data_collator must flatten the tokens of its rows as they are, got {tokens} of rows with "
        f"{sum(lengths)}: where it adds tokens, cuts rows or merges them, its position_ids must "
        "begin with 0 in each row, or it is not known which loss is whose. Do it in the dataset, "
        "or set sample_losses="
    )


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
