"""What Accelerate's loader reads: the order of an epoch, and rows that know their indices.

Between the plan and the prepared loader; no cost beyond the plan's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from seta.torch.course import Course
from seta.torch.dataset import IndexedCollate, IndexedDataset
from seta.torch.sampler import PrunedSampler


class Order(Sampler[int]):
    """The plan of the open epoch, all of it, in every process, from where a run was resumed.

    Filled up with samples from its beginning to a multiple that makes equal batches. Accelerate
    would fill up with those that it saw first, which are others after a resume.

    Args:
        course: Has the plan.
        multiple: Of so many samples.
    """

    def __init__(self, course: Course, multiple: int) -> None:
        self._course, self._multiple = course, multiple
        self._plan = PrunedSampler(course, share=False, done=lambda: course.resumed)

    def set_epoch(self, epoch: int) -> None:
        """Says nothing new: `Pruning` alone begins and ends epochs.

        Raises:
            RuntimeError: Another epoch is open.
        """
        if epoch != self._course.epoch:
            raise RuntimeError(
                f"epoch {epoch} was asked for, and the open one is {self._course.epoch}: iterate "
                "over the Pruning itself, and choose its epoch by pruning.set_epoch()"
            )

    def __len__(self) -> int:
        """Number of samples of the whole epoch."""
        length = len(self._plan)
        return length + -length % self._multiple

    def __iter__(self) -> Iterator[int]:
        """Iterates over what is left of the epoch."""
        indices = self._course.begin_epoch().indices
        missing = (self._course.resumed - len(indices)) % self._multiple
        return chain(self._plan, np.resize(indices, missing).tolist())


class Rows(IndexedDataset):
    """The dataset, with the length of a pass where Accelerate's `gather_for_metrics` looks for it.

    So it cuts off what an epoch was filled up with, and nothing else.
    """

    total_dataset_length = 0


class TensorCollate(IndexedCollate):
    """A collate function that hands on the indices as a tensor, int64 (B,)."""

    def __call__(self, fetched: Any) -> tuple[Any, Any]:
        """Returns the indices of some `IndexedRows`, and the user's batch."""
        indices, rows = fetched
        return torch.tensor(indices), self.collate_fn(rows)


def with_bytes(batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, Any]]:
    """Yields batches with their indices as bytes; those that come as a tensor are on a device."""
    for indices, batch in batches:
        packed = indices.cpu().numpy().tobytes() if isinstance(indices, Tensor) else indices
        yield packed, batch
