"""Checks of the arguments of `PrunedDataLoader` and other loaders, before any work."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seta.engine.arguments import Reorder
from seta.engine.table.columns import check_indices
from seta.torch.given import Indices


def check_options(options: Mapping[str, Any], loader: str = "PrunedDataLoader") -> dict[str, Any]:
    """Returns the options for torch's `DataLoader`, without those that choose samples.

    Args:
        options: As given.
        loader: To whom, for the message.

    Raises:
        TypeError: There is no such option.
        ValueError: `sampler` or `batch_sampler` is among them, and not None.
    """
    for name in ("sampler", "batch_sampler"):
        if options.get(name) is not None:
            raise ValueError(
                f"{name} is not allowed, got {name}={options[name]!r}: {loader} chooses the "
                f"samples of each epoch and shuffles them itself. Leave {name} out; reorder= "
                "changes the order within an epoch, always_keep= names samples that must stay"
            )
    known = inspect.signature(DataLoader).parameters.keys()
    unknown = sorted(options.keys() - known)
    if unknown:
        raise TypeError(
            f"{loader} has no option {', '.join(unknown)}: it takes its own and those of "
            f"torch.utils.data.DataLoader in torch {torch.__version__}"
        )
    return {k: v for k, v in options.items() if k not in ("sampler", "batch_sampler")}


def order_of(shuffle: bool | None, reorder: Reorder | None) -> Reorder | None:
    """Returns what puts an epoch's samples into order; None: they stay shuffled.

    Args:
        shuffle: Torch's option; False: the order of the dataset.
        reorder: The user's own.

    Raises:
        ValueError: Both say it.
    """
    if shuffle is not False:
        return reorder
    if reorder is not None:
        raise ValueError("shuffle=False and reorder= both set the order of an epoch: leave one out")
    return np.sort


def check_batch_size(batch_size: int) -> int:
    """Returns the batch size as an int of at least 1.

    Raises:
        ValueError: It is none.
    """
    try:
        size = operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1 or isinstance(batch_size, bool):
        raise ValueError(
            f"batch_size must be an integer of at least 1, got {batch_size!r}: losses are "
            "matched to samples batch by batch"
        )
    return size


def check_dataset(dataset: Any) -> int:
    """Returns the length of a dataset that can be pruned.

    Raises:
        TypeError: It is iterable-style, or has no length.
        ValueError: It is empty.
    """
    kind = type(dataset).__name__
    if isinstance(dataset, DataLoader):
        raise TypeError(
            f"dataset must hold the samples, got a {kind}, which holds batches: give its dataset, "
            "or make the loader by PrunedDataLoader.from_loader(loader, policy, epochs=...)"
        )
    remedy = "samples are chosen by their index: give a map-style dataset (a list is one)"
    if isinstance(dataset, IterableDataset):
        if any(base.__name__ == "StreamingDataset" for base in type(dataset).mro()):
            remedy = (  # mosaicml-streaming, litdata
                "give RandomAccess(dataset), from seta.integrations.shards, or see the "
                "documentation on streams"
            )
        raise TypeError(f"dataset must not be iterable-style, got {kind}: {remedy}")
    try:
        n = len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"dataset must have a length, got {kind} without: {remedy}") from error
    if isinstance(dataset, Mapping) and 0 not in dataset:
        raise TypeError(
            f"dataset must have samples by number, got {kind} of {', '.join(map(repr, dataset))}: "
            "give one of its splits or columns"
        )
    if n < 1:
        raise ValueError(f"dataset must have at least one sample, got {kind} of length {n}")
    return n


def sample_indices(indices: ArrayLike | Tensor, count: int | None, n: int) -> Indices:
    """Returns the user's indices as int64 (count,), a copy; None: of any number.

    Raises:
        ValueError, IndexError: They are no integers in 0..n-1, or not `count` of them.
    """
    if isinstance(indices, Tensor):
        if indices.is_floating_point():
            raise ValueError(f"indices must be integers, got {indices.dtype}: {_EXACT}")
        indices = indices.cpu().numpy()
    array = np.array(indices)
    check_indices(array, n)
    if count is not None and len(array) != count:
        raise ValueError(
            f"indices must have one entry for each loss, got {len(array)} indices for {count} "
            "losses: give those of the same samples"
        )
    return array.astype(np.int64, copy=False)


_EXACT = "large ones are not exact as floats; keep the dtype that the loader returned"
