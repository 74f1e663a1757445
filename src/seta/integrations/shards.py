"""Reading the sharded datasets of mosaicml-streaming and litdata by index, for `PrunedDataLoader`.

    rows = RandomAccess(StreamingDataset(...))
    loader = PrunedDataLoader(rows, "SeTa", reorder=rows.by_shard, epochs=10, budget=0.6)

A `StreamingDataset` is iterable-style, but it also has `dataset[index]`. Read that way, pruned
samples are neither read nor decoded, every rank trains exactly its plan, and a run resumes exactly.
Neither package is imported here. Cost: that of `dataset[index]`; `by_shard` sorts the plan.
"""

from __future__ import annotations

import copy
import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.extras import require

require("seta.integrations.shards", "torch", extra="torch")

from torch.utils.data import Dataset  # noqa: E402

logger = logging.getLogger(__name__)


class RandomAccess(Dataset[Any]):
    """Map-style view of a `streaming.StreamingDataset` or a `litdata.StreamingDataset`.

    It has all samples of the dataset, each once, on every rank. `len` of a `StreamingDataset` is
    the length of one rank's part. Settings for iterating, such as `shuffle`, have no effect.

    Args:
        dataset: The dataset.
        shards_at_once: Number of shards whose samples `by_shard` mixes, >= 1.

    Attributes:
        dataset: The dataset, as given.

    Raises:
        TypeError: `dataset` is neither of the two, such as litdata's `CombinedStreamingDataset`.
        ValueError: A setting of `dataset` would be ignored: the weights of its streams, its
            `epoch_size` or its `batching_method`; or `shards_at_once` is below 1.
    """

    def __init__(self, dataset: Any, *, shards_at_once: int = 8) -> None:
        if shards_at_once < 1:
            raise ValueError(
                f"shards_at_once must be at least 1, got {shards_at_once!r}: the number of shards "
                "whose samples are mixed"
            )
        self._ends = np.cumsum(_shard_sizes(dataset))
        self.dataset, self.shards_at_once = dataset, shards_at_once
        self._process = os.getpid()

    def __len__(self) -> int:
        """Number of samples in all shards."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Any:
        """Returns a sample, as `dataset[index]`."""
        if self._process != os.getpid():
            self._process = os.getpid()
            # litdata keeps a chunk open. A forked worker must not share the position in that file.
            if getattr(self.dataset, "cache", None) is not None:
                self.dataset = copy.deepcopy(self.dataset)
        return self.dataset[int(index)]  # litdata takes no other integers

    def by_shard(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Orders an epoch so that it reads a few shards at a time; for `reorder=`.

        Shards come in random order, `shards_at_once` of them together, their samples mixed. All
        ranks read the same shards at the same time.

        Args:
            indices: The samples of an epoch in random order: integers (K,).

        Returns:
            A permutation of them (K,).
        """
        shards = np.searchsorted(self._ends, indices, side="right")
        _, first, which = np.unique(shards, return_index=True, return_inverse=True)
        place = np.argsort(np.argsort(first))  # of a shard: that of its first sample
        return indices[np.argsort(place[which] // self.shards_at_once, kind="stable")]


def _shard_sizes(dataset: Any) -> NDArray[np.int64]:
    """Returns how many samples each shard has: int64 (shards,).

    Raises:
        TypeError: It is no sharded dataset with access by index.
        ValueError: It has settings that only take effect when it is iterated over.
    """
    if hasattr(dataset, "samples_per_shard"):  # mosaicml-streaming
        _check_settings(dataset)
        return np.asarray(dataset.samples_per_shard, np.int64)
    if hasattr(dataset, "region_of_interest"):  # litdata: where a chunk begins and ends
        if dataset.batch_decode not in (0, 1):
            logger.warning(
                "litdata decodes up to 256 samples of a chunk to read one of them, unless they are "
                "images: make StreamingDataset(..., batch_decode=1)"
            )
        return np.array([end - start for start, end in dataset.region_of_interest], np.int64)
    raise TypeError(
        "dataset must be a StreamingDataset of mosaicml-streaming or litdata, got "
        f"{type(dataset).__name__}: a map-style dataset needs no RandomAccess; several datasets "
        "become one by torch.utils.data.ConcatDataset([RandomAccess(a), RandomAccess(b)])"
    )


def _check_settings(dataset: Any) -> None:
    weighted = [int(stream.choose) for stream in dataset.streams]
    if weighted != dataset.samples_per_stream.tolist():
        raise ValueError(
            "dataset must take each sample once per epoch, got one with epoch_size= or streams "
            f"with proportion=, repeat= or choose=: its streams of {dataset.samples_per_stream} "
            f"samples give {weighted}. Leave these out: the policy chooses the samples"
        )
    if dataset.batching_method != "random":
        raise ValueError(
            f"dataset must have batching_method='random', got {dataset.batching_method!r}, which "
            "has no effect on access by index: reorder= of PrunedDataLoader sets what goes into "
            "one batch"
        )
