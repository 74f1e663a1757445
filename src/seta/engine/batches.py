"""The batches of the open epoch, for a training loop that has no loader: numpy, JAX, anything.

    while pruner.next_epoch < pruner.epochs:
        for indices, weights in batches(pruner, 32):
            losses = step(images[indices], labels[indices], weights)
            pruner.record(indices, losses)
        pruner.end_epoch()

It reads the plan and no more: it records nothing and ends no epoch. Cost: 2 microseconds per batch
of 128; 10 where a method weights its samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import arguments
from seta.engine.pruner import Pruner


def batches(
    pruner: Pruner, batch_size: int, *, done: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Returns what this process trains of the open epoch, in order; begins one if none is open.

    Under a budget with `unit=batch_size` (of all ranks together) every batch is full, so that a
    compiled step has one shape; else the last one of an epoch may be smaller.

    Args:
        pruner: The pruner.
        batch_size: Samples per batch, on each rank, >= 1.
        done: Samples, over all ranks, that were trained before a resume: the first of the epoch.

    Returns:
        An iterator of pairs: the samples, int64 (B,), and the factors of their losses, float32
        (B,), for the loss `(weights * losses).mean()`.

    Raises:
        TypeError, ValueError: `batch_size` or `done` is not allowed, or all epochs are over.
        RuntimeError: From the iterator, where its epoch has ended.

    Examples:
        >>> pruner = Pruner(5, "Full", epochs=1)
        >>> [len(indices) for indices, weights in batches(pruner, 2)]
        [2, 2, 1]
    """
    batch_size = arguments.integer("batch_size", batch_size, 1, "the samples of one step")
    done = arguments.integer("done", done, 0, "the samples of this epoch that are trained already")
    return _walk(pruner, pruner.share(done), batch_size, pruner.epoch)


def _walk(
    pruner: Pruner, order: NDArray[np.unsignedinteger[Any]], batch_size: int, epoch: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for start in range(0, len(order), batch_size):
        if pruner.epoch != epoch:
            raise RuntimeError(
                f"these are the batches of epoch {epoch}, which has ended: call batches() anew for "
                "each epoch, and end_epoch() after the loop over them"
            )
        indices = order[start : start + batch_size].astype(np.int64)
        weights = pruner.weights_of(indices)
        yield indices, np.ones(len(indices), np.float32) if weights is None else weights
