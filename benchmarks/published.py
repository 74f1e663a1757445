"""An epoch start the way the published package does it, in our own words, with its costs.

What it does each epoch: keep int((1 - r) N) samples at random; scikit-learn's `KMeans` (one start)
over the losses kept; a Python loop that puts every sample into the list of its group; the mean of
each list, to sort the groups; the samples of the window's groups, shuffled, as one array.

The published package holds the losses in a torch tensor and walks over it item by item, which makes
one small tensor per sample and per index. `epoch_start` does the same, and is the one that ratios
are taken to. `numpy_epoch_start` is the same again on numpy arrays, some twelve times cheaper,
and stands beside it so that nobody takes the tensors' share for the method's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans

Array = npt.NDArray[Any]


def epoch_start(losses: torch.Tensor, epoch: int, rng: np.random.Generator) -> Array:
    """The indices of an epoch in training order, from float32 (N,) losses in a tensor."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    kept = torch.randperm(len(losses), generator=generator)[: int(0.9 * len(losses))]
    values = losses[kept]
    return _window_of_groups(values, kept, _labels(values.numpy(), rng), epoch, rng)


def numpy_epoch_start(losses: Array, epoch: int, rng: np.random.Generator) -> Array:
    """`epoch_start` on float32 (N,) losses in a numpy array."""
    kept = rng.choice(len(losses), int(0.9 * len(losses)), replace=False)
    values = losses[kept]
    return _window_of_groups(values, kept, _labels(values, rng), epoch, rng)


def _labels(values: Array, rng: np.random.Generator, groups: int = 5) -> Array:
    """The group of each value, int32 (M,), in no order."""
    seed = int(rng.integers(2**31))
    means = KMeans(n_clusters=groups, n_init=1, random_state=seed)
    return means.fit(values.reshape(-1, 1)).labels_  # type: ignore[no-any-return]


def _window_of_groups(
    values: Iterable[Any],
    indices: Iterable[Any],
    labels: Array,
    epoch: int,
    rng: np.random.Generator,
    groups: int = 5,
    window: float = 0.9,
) -> Array:
    """Sorts samples into groups one by one and returns those in the window, shuffled."""
    losses_of: list[list[Any]] = [[] for _ in range(groups)]
    members_of: list[list[Any]] = [[] for _ in range(groups)]
    for value, index, label in zip(values, indices, labels, strict=True):
        losses_of[label].append(value)
        members_of[label].append(index)
    easiest_first = sorted(range(groups), key=lambda g: np.mean(losses_of[g]))
    width = round(groups * window) if epoch else groups
    start = epoch % (groups - width + 1)
    chosen = [i for g in easiest_first[start : start + width] for i in members_of[g]]
    rng.shuffle(chosen)
    return np.array(chosen)
