"""The indices of the samples in a batch, and the order of an epoch.

The indices are bytes under a key of the batch: Accelerate and `Trainer` move tensors to the device
and leave bytes on the CPU, where they are needed. The key is added after the user's collate
function and the removal of unused columns, and removed before the training step.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
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


@dataclass
class TrainedBatch:
    """The batch that is being trained.

    Attributes:
        indices: int64 (B,), its samples.
        lengths: Their tokens, if it is flattened.
        answered: Whether their losses were recorded, or left out on purpose.
        updated: Whether `update` recorded some of them.
        done: Whether `update` recorded all of them, or `skip` left them out.
        weighted: The losses made of them, where weights of the policy other than 1 went in.
        losses: Those to record when the step is over: float (B,).
        inputs: What `Trainer` made of the batch for the model; None: not known.
        found: Whether a loss was computed of just these.
        guess: The first inputs that are not these, and may have been made of them.
        guesses: How many such inputs there were.
        early: Whether the guess was weighted before the batch was found.
    """

    indices: NDArray[np.int64]
    lengths: list[int] | None
    answered: bool = False
    updated: bool = False
    done: bool = False
    weighted: list[Tensor] = field(default_factory=list)
    losses: Tensor | None = None
    inputs: Mapping[str, Any] | None = None
    found: bool = False
    guess: Mapping[str, Any] | None = None
    guesses: int = 0
    early: bool = False

    def takes(self, inputs: Mapping[str, Any]) -> bool:
        """Returns whether the loss of these inputs is one of the batch.

        A step may compute several losses, of the same rows or of others, such as replayed ones,
        which have no indices. Where none is of the batch as it came, one of the same number of rows
        is, whatever was made of them. The losses of the first one are recorded.
        """
        if self.done:
            return False
        if self.inputs is not None and _same(inputs, self.inputs):
            if not self.found:
                self.losses, self.early = None, self.guess is not None and bool(self.weighted)
            self.found = True
            return True
        if self.found or self.updated:
            return False
        if self.guess is None:
            if self.inputs is not None and not _as_many(inputs, self.inputs):
                return False
            self.guess = inputs
        elif not _same(inputs, self.guess):
            self.guesses += 1
            return False
        self.guesses = max(self.guesses, 1)
        return True

    @property
    def unclear(self) -> bool:
        """Whether nobody knows which of the losses is that of the batch."""
        return self.inputs is not None and not self.found and self.guesses > 1 and not self.done

    def answer(self, loss: Tensor, weights: NDArray[np.float32] | None) -> Tensor:
        """Takes the loss made of the recorded ones with these weights, and returns it."""
        self.answered = True
        if weights is not None and (weights != 1).any():
            self.weighted.append(loss)
        return loss


def _same(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Returns whether inputs have some tensors in common, and these are equal."""
    names = [
        name
        for name, value in some.items()
        if isinstance(value, Tensor) and isinstance(others.get(name), Tensor)
    ]
    return bool(names) and all(
        some[name] is others[name]
        or (some[name].device == others[name].device and torch.equal(some[name], others[name]))
        for name in names
    )


def _as_many(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Returns whether inputs may have as many rows: some tensor that both have does, or none is."""
    pairs = [(value, others.get(name)) for name, value in some.items()]
    sizes = [
        (one.shape[:1], other.shape[:1])
        for one, other in pairs
        if isinstance(one, Tensor) and isinstance(other, Tensor)
    ]
    return not sizes or any(one == other for one, other in sizes)


def taken(inputs: Any) -> tuple[TrainedBatch, Any]:
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
    return TrainedBatch(indices_of(inputs.pop(INDICES)), inputs.pop(LENGTHS, None)), inputs


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
