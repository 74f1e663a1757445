"""The sampler, dataset and collate function of the loader that Accelerate prepares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seta.engine import Pruner
from seta.torch.dataset import IndexedCollate, IndexedDataset, indices_of
from seta.torch.sampler import PrunedSampler


class Order(PrunedSampler):
    """Sampler of the whole selection in every process, or after a resume of the rest of it.

    What does not fill the last batch is filled up with samples from the plan's beginning, but where
    one process keeps all samples: its last batch is short, as torch's is. Accelerate would fill up
    with those that it saw first, which are others after a resume.

    Args:
        pruner: Makes the plan.
        multiple: Of so many samples, which make equal batches.
    """

    def __init__(self, pruner: Pruner, multiple: int) -> None:
        super().__init__(pruner, share=False)
        self._multiple = multiple

    def __iter__(self) -> Iterator[int]:
        """Iterates over what is left of the epoch."""
        pruner = self.pruner
        plan = pruner.begin_epoch()
        short = pruner.ranks is None and len(plan) == pruner.n
        missing = 0 if short else (pruner.done - len(plan)) % self._multiple
        return chain(super().__iter__(), np.resize(plan[:missing], missing).tolist())


class Rows(IndexedDataset):
    """The dataset, with the length of a pass where Accelerate's `gather_for_metrics` looks for it.

    So it cuts off what an epoch was filled up with, and nothing else.
    """

    total_dataset_length = 0


class TensorCollate(IndexedCollate):
    """A collate function that returns the indices as a tensor, int64 (B,)."""

    def __call__(self, fetched: Any) -> tuple[Any, Any]:
        """Returns the indices of some `IndexedRows`, and the user's batch."""
        packed, batch = super().__call__(fetched)
        return torch.from_numpy(indices_of(packed).copy()), batch


def with_bytes(batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, Any]]:
    """Yields batches with their indices as bytes; those that come as a tensor are on a device."""
    for indices, batch in batches:
        packed = indices.cpu().numpy().tobytes() if isinstance(indices, Tensor) else indices
        yield packed, batch
