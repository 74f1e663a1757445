"""The epoch's plan as an index-level torch sampler.

It stands under torch's own `BatchSampler`, where frameworks look for `set_epoch`. It is a view: the
plan belongs to the `Pruner`, and `set_epoch`, `len` and `iter` read it
as often as they like. No counter moves here.

Cost: nothing is held; samples are made some thousands at a time, as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from torch.utils.data import Sampler

from seta.engine import Pruner


class PrunedSampler(Sampler[int]):
    """Yields the indices of the open epoch's selection, in training order.

    After a resume it is the rest of them, if the pruner's state said where to go on. It offers no
    `state_dict`: a stateful loader would take that for a position in the epoch, and then not skip
    forward.

    Args:
        pruner: Makes the plan.
        share: With ranks, which it has to be said for: False yields the whole plan, the same on all
            of them, where a framework deals it out (Accelerate's `prepare`, `Trainer`); True yields
            what this rank trains, where nothing else does (plain DDP and FSDP, Lightning with
            `use_distributed_sampler=False`, Ray with `add_dist_sampler=False`).

    Attributes:
        pruner: As given.
        share: Whether it yields this rank's share alone.

    Raises:
        ValueError: `share` is not said, or False for a sharded table.
    """

    def __init__(self, pruner: Pruner, *, share: bool | None = None) -> None:
        ranks = pruner.ranks
        if share is None and ranks is not None:
            raise ValueError(
                f"share must be given, since {ranks.size} ranks train together: True to "
                "yield this rank's part of each epoch; False to yield all of it, the same on each "
                "rank, where a framework deals it out (accelerator.prepare, Trainer)"
            )
        if not share and ranks is not None and pruner.sharding == "sharded":
            raise ValueError(
                "share must be True for a sharded table, got False: each rank trains on the "
                'samples whose losses it holds. Make the Pruner with sharding="replicated" where a '
                "framework deals out the samples"
            )
        self.pruner, self.share = pruner, bool(share)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one to read; asking for the open one changes nothing."""
        self.pruner.begin_epoch(epoch)

    def __len__(self) -> int:
        """Number of samples of the whole epoch; after the run, of the last one."""
        pruner = self.pruner
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs and pruner.history:
            kept = int(pruner.history[-1]["kept"])
        else:
            pruner.begin_epoch()
            kept = pruner.kept
        return pruner.share_size(kept) if self.share else kept

    def __iter__(self) -> Iterator[int]:
        """Iterates over the plan, from its beginning (or from where a run was resumed)."""
        pruner = self.pruner
        rest = pruner.share() if self.share else pruner.begin_epoch().part(slice(pruner.done, None))
        blocks = (block.tolist() for block in rest.blocks())
        return chain.from_iterable(chain(blocks, self._end(len(rest))))

    def _end(self, given: int) -> Iterator[list[int]]:
        """Comes after the last index, and has none; tells that the share was walked to its end."""
        if self.share:
            self.pruner.walked(given)
        yield []
