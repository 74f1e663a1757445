"""What each rank takes of an epoch's plan, and the account of what it took.

All ranks know the plan, and none knows which of its samples lie in its own part of the stream. So
the plan says how many batches each rank gives, the same number on all; and a rank whose part holds
fewer of the plan's samples fills up from the others of its part. Nothing is communicated until the
epoch ends.

Cost: six bits per sample, some 30 microseconds per batch, and one sum of three numbers per epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seta.engine import Pruner
from seta.engine.draw import set_bits
from seta.engine.ranks import share_of
from seta.engine.rows import Row
from seta.integrations.streams.keep import KeepSet

logger = logging.getLogger(__name__)

Bits = NDArray[np.uint8]
Kind = Literal["plan", "fill", "repeat"]


class Ledger:
    """The account of one stream.

    Args:
        keep: What the workers ask.
        batch_size: Samples per batch, on each rank.
        split: Whether each rank reads a part of its own of the stream.
        fill: Whether an epoch has a promised length, also where one rank is alone.

    Attributes:
        figures: Of each epoch that is over, over all ranks: how many samples were planned, filled
            up with, and repeated.
    """

    def __init__(self, keep: KeepSet, batch_size: int, split: bool, fill: bool) -> None:
        self._keep, self._batch_size, self._split, self._fill = keep, batch_size, split, fill
        self.figures: list[dict[str, int]] = []
        self._plan = self._arrived = self._given = self._none()
        self.restore(None)

    def attach(self, pruner: Pruner) -> None:
        """Takes the pruner, which has `close` among its listeners."""
        self._pruner = pruner

    def restore(self, before: Bits | None) -> None:
        """Begins the account of an epoch, of which some samples may be trained already."""
        self._before = self._none() if before is None else np.array(before, np.uint8)
        self._done = _count(self._before)
        self._trained = self._none()  # since, on this rank
        self._filled = self._repeated = 0

    def _none(self) -> Bits:
        return np.zeros(-(-self._keep.n // 8), np.uint8)

    @property
    def wanted(self) -> int:
        """Samples that this rank is to give in the open epoch, after those trained before.

        Raises:
            RuntimeError: The plan holds too few for a batch on each rank.
        """
        pruner = self._pruner
        left = max(0, len(pruner.begin_epoch()) - self._done)
        if pruner.ranks is None:
            return left
        batches = left // (self._batch_size * pruner.ranks.size)
        if not batches and not self._done:
            raise RuntimeError(
                f"epoch {pruner.epoch} keeps {left} samples, too few for a batch of "
                f"{self._batch_size} on each of {pruner.ranks.size} ranks: train on fewer ranks, "
                "keep more samples, or give a budget"
            )
        return batches * self._batch_size

    def passes(self) -> Iterator[Kind]:
        """Yields how the stream is to be read, again and again, the keep set rewritten for each.

        First what is planned; then, to fill up, the others of this rank's part; then all of it.
        """
        self._plan, self._arrived, self._given = self._planned(), self._before.copy(), self._none()
        self._filled = self._repeated = 0
        self._keep.rewrite(self._plan)
        yield "plan"
        if self._pruner.ranks is None and not self._fill:
            return
        kinds: Iterator[Kind] = chain(["fill"], repeat("repeat"))
        own = self._own()
        for kind in kinds:
            if kind == "repeat":
                self._arrived = self._none()
            self._keep.rewrite(own & ~self._arrived)
            yield kind

    def _planned(self) -> Bits:
        """Returns the samples of the plan that this rank is to take if they come along."""
        plan, ranks = self._pruner.begin_epoch().indices, self._pruner.ranks
        if self._done:
            plan = plan[~_has(self._before, plan)]
        if ranks is not None and not self._split:
            plan = share_of(plan, 0, ranks)[: self.wanted]
        set_bits(bits := self._none(), plan)
        return bits

    def _own(self) -> Bits:
        """Returns the samples that no other rank takes if this one does."""
        own, ranks = np.ones(self._keep.n, np.bool_), self._pruner.ranks
        if ranks is not None and not self._split:
            own[:] = np.arange(self._keep.n) % ranks.size == ranks.rank
            own[self._pruner.begin_epoch().indices] = False
        return np.packbits(own) | self._plan

    def arrive(self, indices: NDArray[np.int64]) -> None:
        """Takes note of samples that come from the stream.

        Raises:
            RuntimeError: One came already in this reading.
        """
        again = indices[_has(self._arrived, indices)].tolist()
        if not again and len(np.unique(indices)) < len(indices):
            values, counts = np.unique(indices, return_counts=True)
            again = values[counts > 1].tolist()
        if again:
            raise RuntimeError(
                f"sample {again[0]} came twice from one reading of the stream, in epoch "
                f"{self._pruner.epoch}: either its ids are not those of samples (with_indices and "
                "add_column of a Hugging Face IterableDataset count anew in every shard), or each "
                "of several workers reads the whole source: num_workers > 0 needs a source that "
                "deals its shards out to them, as datasets and webdataset do"
            )
        set_bits(self._arrived, indices)

    def give(self, indices: NDArray[np.int64]) -> int:
        """Takes note of samples that go to the training loop, and returns how many they are."""
        repeated = int(np.count_nonzero(_has(self._given, indices)))
        self._repeated += repeated
        self._filled += int(np.count_nonzero(~_has(self._plan, indices)))
        set_bits(self._given, indices)
        return len(indices)

    def answer(self, indices: NDArray[np.integer[Any]]) -> None:
        """Takes note of samples that were trained."""
        set_bits(self._trained, indices)

    def trained(self, what: str) -> Bits:
        """Returns what is trained of the open epoch, by all ranks, who all have to call this."""
        bits, ranks = self._before | self._trained, self._pruner.ranks
        return bits if ranks is None else np.bitwise_or.reduce(ranks.gather(bits, what))

    def close(self, row: Row) -> None:
        """Balances the account of an epoch that has just ended, on all ranks.

        Raises:
            RuntimeError: Samples were trained on two ranks.
        """
        ranks, epoch = self._pruner.ranks, row["epoch"]
        fresh = _count(self._trained & ~self._before)
        counts = np.array([fresh, self._filled, self._repeated], np.int64)
        if ranks is not None:
            counts = ranks.sum(counts, f"the account of epoch {epoch}")
        trained, filled, repeated = self._done + int(counts[0]), int(counts[1]), int(counts[2])
        self.restore(None)
        self.figures.append(
            {"epoch": epoch, "planned": row["kept"], "filled": filled, "repeated": repeated}
        )
        if ranks is not None:
            twice = trained - int(np.count_nonzero(self._pruner.left_out == 0))
            if twice > 0:
                raise RuntimeError(
                    f"{twice} samples were trained on two ranks in epoch {epoch}: with split=True "
                    "each rank reads a part of its own (split_dataset_by_node of datasets, "
                    "nodesplitter=split_by_node of webdataset). Split the stream, or say "
                    "split=False where every rank reads all of it; ids have to be those of samples"
                )
        self._report(epoch, row["kept"], filled, repeated)

    def _report(self, epoch: int, planned: int, filled: int, repeated: int) -> None:
        if repeated:
            logger.warning(
                "epoch %d: %d of %d samples were trained once more, since a rank's part of the "
                "stream held too few: split it into more equal parts, or lower the budget",
                epoch, repeated, planned,
            )  # fmt: skip
        elif filled and (self._pruner.ranks is None or not self._split):
            logger.warning(
                "epoch %d: %d of the %d planned samples did not come, and others stood in for "
                "them: KeepSet has to be given the samples that there are, and with split=False "
                "every rank reads the whole stream",
                epoch, filled, planned,
            )  # fmt: skip

    @property
    def nothing(self) -> str:
        """Returns what to say of a stream that gives this rank nothing."""
        ranks = self._pruner.ranks
        return (
            f"the source gave no samples{'' if ranks is None else f' to rank {ranks.rank}'} in "
            f"epoch {self._pruner.epoch}: see that its files are found, and that there are at "
            "least as many shards as ranks"
        )


def _has(bits: Bits, indices: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns whether the bits of samples are set."""
    at = indices.astype(np.int64)
    hits: NDArray[np.bool_] = (bits[at >> 3] & (0x80 >> (at & 7))) != 0
    return hits


def _count(bits: Bits) -> int:
    """Returns how many bits are set."""
    return int(np.unpackbits(bits).sum(dtype=np.int64))
