"""`PrunedSampler`: a torch sampler that yields the selection of a pruner.

It is used below torch's own `BatchSampler`, where frameworks call `set_epoch`. It has no state: the
selection belongs to the `Pruner`, and `set_epoch`, `len` and `iter` only read it.

Cost: no memory; indices are computed some thousands at a time, as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from torch.utils.data import Sampler

from seta.engine import Pruner


class PrunedSampler(Sampler[int]):
    """Sampler of the open epoch's selection, in training order, for a `DataLoader` of your own.

    After a resume it yields the rest of the epoch, if the state has a position (`done`). Methods:
    `len`, iteration, `set_epoch`. It has no `state_dict`, since a stateful loader would then not
    skip the batches that were trained.

    Args:
        pruner: Selects the samples.
        share: Required with ranks. True: yields this rank's share, for plain DDP and FSDP,
            Lightning with `use_distributed_sampler=False`, or Ray with `add_dist_sampler=False`.
            False: yields the whole selection on each rank, for frameworks that split it among the
            ranks (Accelerate's `prepare`, `Trainer`).

    Attributes:
        pruner: The pruner, as given.
        share: Whether it yields this rank's share only.

    Raises:
        ValueError: `share` is missing, or False with a sharded table.
    """

    def __init__(self, pruner: Pruner, *, share: bool | None = None) -> None:
        ranks = pruner.ranks
        if share is None and ranks is not None:
            raise ValueError(
                f"share must be given, since {ranks.size} ranks train together: True to "
                "yield this rank's part of each epoch; False to yield all of it, the same on each "
                "rank, if a framework splits it among them (accelerator.prepare, Trainer)"
            )
        if not share and ranks is not None and pruner.sharding == "sharded":
            raise ValueError(
                "share must be True for a sharded table, got False: each rank trains on the "
                'samples whose losses it holds. Make the Pruner with sharding="replicated" if a '
                "framework splits the samples among the ranks"
            )
        self.pruner, self.share = pruner, bool(share)

    def set_epoch(self, epoch: int) -> None:
        """Begins an epoch; has no effect if it is open already."""
        self.pruner.begin_epoch(epoch)

    def __len__(self) -> int:
        """Number of samples in the whole epoch; after the run, in the last epoch."""
        pruner = self.pruner
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs and pruner.history:
            kept = int(pruner.history[-1]["kept"])
        else:
            pruner.begin_epoch()
            kept = pruner.kept
        return pruner.share_size(kept) if self.share else kept

    def __iter__(self) -> Iterator[int]:
        """Iterates over the selection, or after a resume over the rest of it."""
        pruner = self.pruner
        rest = pruner.share() if self.share else pruner.begin_epoch().part(slice(pruner.done, None))
        blocks = (block.tolist() for block in rest.blocks())
        return chain.from_iterable(chain(blocks, self._end(len(rest))))

    def _end(self, given: int) -> Iterator[list[int]]:
        """Yields no index, and notes that the share was given out completely."""
        if self.share:
            self.pruner.walked(given)
        yield []
