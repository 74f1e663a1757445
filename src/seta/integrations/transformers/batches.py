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
        parts: Its tensors and other values by place, and the versions that they came with.
        found: Whether a loss was computed of just these.
    """

    indices: NDArray[np.int64]
    lengths: list[int] | None
    label_names: Collection[str] = ("labels",)
    answered: bool = False
    done: bool = False
    updated: list[NDArray[np.int64]] = field(default_factory=list)
    weighted: list[Tensor] = field(default_factory=list)
    losses: Tensor | None = None
    parts: dict[Place, tuple[Any, int]] = field(default_factory=dict)
    found: bool = False

    def comes_as(self, inputs: Any) -> None:
        """Notes the values of the batch, as they are now."""
        self.parts = {at: (one, _version(one)) for at, one in parts_of(inputs)}

    def takes(self, inputs: Any) -> bool:
        """Returns whether the loss of these inputs is one of the batch.

        A step may compute several losses, of the same rows or of others, such as replayed ones,
        which have no indices. The losses of the first inputs of the batch are recorded, in place of
        those of inputs that were only made of it.
        """
        if self.done:
            return False
        if not self._equals(inputs):
            return self._goes_into(inputs)
        if not self.found:
            self.losses, self.found = None, True
        return True

    def holds(self, inputs: Any) -> bool:
        """Returns whether inputs are equal to the batch, or have its labels, or all else of it.

        What they have must be passed on unchanged: an augmented image beside the same labels.
        """
        return self._equals(inputs) or self._goes_into(inputs)

    def moved_to(self, inputs: Any) -> bool:
        """Returns whether labels, or all else, have the same values after they were moved."""
        given = dict(parts_of(inputs))
        return self._keeps(lambda at, one: at in given and _equal(given[at], one))

    def _equals(self, inputs: Any) -> bool:
        given = dict(parts_of(inputs))
        return bool(self.parts) and all(
            _version(one) == version and at in given and _equal(given[at], one)
            for at, (one, version) in self.parts.items()
        )

    def _goes_into(self, inputs: Any) -> bool:
        given = dict(parts_of(inputs))
        tensors = [one for one in given.values() if isinstance(one, Tensor)]

        def goes(at: Place, one: Any) -> bool:
            if isinstance(one, Tensor):  # which may have another key now
                return any(_same_rows(tensor, one) for tensor in tensors)
            return at in given and _equal(given[at], one)

        return self._keeps(goes)

    def _keeps(self, keeps: Callable[[Place, Any], bool]) -> bool:
        """Returns whether all labels that are tensors are kept, or all else is."""
        labels: list[bool] = []
        others: list[bool] = []
        for at, (one, version) in self.parts.items():
            of_labels = isinstance(one, Tensor) and any(name in self.label_names for name in at)
            kept = _version(one) == version and keeps(at, one)
            (labels if of_labels else others).append(kept)
        return any(kept and all(kept) for kept in (labels, others))

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
        shared = some.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        rows = (some.shape[:1], some.stride()[:1]) == (other.shape[:1], other.stride()[:1])
        return shared and rows and some.ndim > 0 and 0 <= begin < max(1, some.stride(0))
    except Exception:  # sparse and nested tensors
        return False


def taken(inputs: Any, label_names: Collection[str]) -> tuple[TrainedBatch, Any]:
    """Takes out of a batch what travels in it, and leaves the batch as it is.

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
            lengths = in_batch(lengths, batch, ids.shape[1])
            length_of = dict(zip(fetched.indices, lengths, strict=True))
            batch[LENGTHS] = [length_of[int(index)] for index in indices_of(packed)]
        return batch


def _lengths_of(rows: Any) -> list[int] | None:
    """Returns the tokens of each of several rows; None for one, and for rows without tokens."""
    if len(rows) < 2 or not all(isinstance(row, Mapping) and "input_ids" in row for row in rows):
        return None
    return [len(row["input_ids"]) for row in rows]


def in_batch(lengths: list[int], batch: Mapping[str, Any], tokens: int) -> list[int]:
    """Returns the tokens that each row has in a flattened batch.

    Args:
        lengths: Those of the rows as they came from the dataset.
        batch: With more tokens than these, if the collate function pads at the end, or adds some to
            each row; then the positions tell where rows begin.
        tokens: Of the batch.

    Raises:
        ValueError: It is not known where.
    """
    surplus = tokens - sum(lengths)
    positions, labels = batch.get("position_ids"), batch.get("labels")
    if surplus <= 0:
        return lengths
    if isinstance(positions, Tensor) and positions.shape[-1] == tokens:
        begins = (positions.reshape(-1, tokens)[0] == 0).nonzero()[:, 0].tolist()
        begins, others = begins[: len(lengths)], begins[len(lengths) :]
        found = [stop - start for start, stop in pairwise([*begins, tokens])]
        padding = all(at >= tokens - surplus for at in others)
        if padding and len(found) == len(lengths) and all(map(operator.ge, found, lengths)):
            return found
    if not isinstance(labels, Tensor) or bool((labels[..., -surplus:] == -100).all()):
        return lengths  # padding at the end
    raise ValueError(
        f"data_collator must flatten the tokens of its rows as they are, got {tokens} of rows with "
        f"{sum(lengths)}: where it adds tokens, its position_ids must begin with 0 in each row, or "
        "it is not known which loss is whose. Add them to the dataset, or set sample_losses="
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
