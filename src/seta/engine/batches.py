"""The batches of the open epoch, for training loops without a loader: numpy, JAX, anything.

    while pruner.next_epoch < pruner.epochs:
        for indices, weights in batches(pruner):
            losses = step(images[indices], labels[indices], weights)
            pruner.record(indices, losses)
        pruner.end_epoch()

It records nothing and ends no epoch. Cost: 2 microseconds per batch of 128, or 10 if the method
weights samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from seta.engine.draw.selection import Selection
from seta.engine.pruner import Pruner

_READ = 1 << 14  # samples of the order made at a time


def batches(
    pruner: Pruner,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Returns an iterator over this process's batches of the open epoch.

    Begins the next epoch if none is open. Call `pruner.record` for each batch and
    `pruner.end_epoch` after the last. Every batch has the pruner's `batch_size`, so that a compiled
    step has one shape; only the last batch of an epoch that keeps all samples may be smaller (never
    with `drop_last=True`). After `Pruner.load_state_dict` it is the rest of the epoch.

    Args:
        pruner: The pruner.

    Returns:
        Iterator over pairs `(indices, weights)`, int64 (B,) and float32 (B,). The loss of the batch
        is `(weights * losses).mean()`.

    Raises:
        ValueError: All epochs are over.
        RuntimeError: Raised by the iterator if its epoch has ended.

    Examples:
        >>> pruner = Pruner(5, "Full", epochs=1, batch_size=2)
        >>> [len(indices) for indices, weights in batches(pruner)]
        [2, 2, 1]
    """
    return _walk(pruner, pruner.share(), pruner.epoch)


def _walk(
    pruner: Pruner, share: Selection, epoch: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    batch_size = pruner.sizes.batch_size
    for samples in share.blocks(batch_size * -(-_READ // batch_size)):
        for start in range(0, len(samples), batch_size):
            if pruner.epoch != epoch:
                raise RuntimeError(
                    f"these are the batches of epoch {epoch}, which has ended: call batches() "
                    "again for each epoch, and end_epoch() after the loop over them"
                )
            indices = samples[start : start + batch_size].astype(np.int64)
            weights = pruner.weights_of(indices)
            yield indices, np.ones(len(indices), np.float32) if weights is None else weights
