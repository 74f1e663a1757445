"""Which samples each rank takes of an epoch, and the counts of what it took.

All ranks know the plan, and none knows which of its samples lie in its own part of the stream. So
the plan says how many batches each rank gives, the same number on all; and a rank whose part holds
fewer of the plan's samples fills up from the others of its part. Nothing is communicated until the
epoch ends.

Cost: five bits per sample, some 30 microseconds per batch, and one exchange of six numbers per
epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seta.engine import Pruner
from seta.engine.draw.mask import set_bits
from seta.engine.rows import Row
from seta.engine.table.ranks import share_of
from seta.integrations.streams.agreement import check_ranks
from seta.integrations.streams.keep import KeepSet

logger = logging.getLogger(__name__)

Bits = NDArray[np.uint8]
Kind = Literal["plan", "fill", "repeat"]


class Ledger:
    """Counts the samples of one stream.

    Args:
        keep: What the workers ask.
        split: Whether each rank reads a part of its own of the stream.

    Attributes:
        figures: Of each epoch that is over, over all ranks: how many samples were planned, missing
            as far as the stream was read, filled up with, and repeated.
        ids: How many samples there are, and what tells their ids from others.
        checked: Whether a reading was followed to its end, and no id came twice in it.
    """

    def __init__(self, keep: KeepSet, split: bool) -> None:
        self._keep, self._split = keep, split
        self.ids = [keep.n, keep.digest()]
        self.figures: list[dict[str, int]] = []
        self.checked = False
        self.restore(None)

    def attach(self, pruner: Pruner) -> None:
        """Takes the pruner, which has `close` among its listeners; of several ranks all call this.

        Raises:
            ValueError: The ranks do not agree.
        """
        if pruner.ranks is not None:
            check_ranks(pruner.ranks, {"ids": self.ids[1], "split": self._split})
        self._pruner = pruner

    def restore(self, before: Bits | None) -> None:
        """Begins the account of an epoch, of which some samples may be done already."""
        self._before = self._none() if before is None else np.array(before, np.uint8)
        self._done = _count(self._before)
        self._begin(self._none())

    def _begin(self, plan: Bits) -> None:
        self._plan, self._arrived, self._given = plan, self._before.copy(), self._none()
        self._filled = self._repeated = 0
        self._absent: int | None = None  # of this rank's plan, once it was read to the end

    def _none(self) -> Bits:
        return np.zeros(-(-self._keep.n // 8), np.uint8)

    @property
    def wanted(self) -> int:
        """Samples that this rank is to give in the open epoch, after those done before."""
        pruner, sizes = self._pruner, self._pruner.sizes
        return sizes.whole(max(0, pruner.kept - self._done) // sizes.ranks, pruner.kept)

    @property
    def full(self) -> int:
        """Samples of a full batch; of an epoch that is smaller, all of this rank's."""
        pruner = self._pruner
        return min(pruner.sizes.batch_size, pruner.share_size(pruner.kept))

    def passes(self) -> Iterator[Kind]:
        """Yields how the stream is to be read, again and again, the keep set rewritten for each.

        First what is planned; then, to fill up, the others of this rank's part; then all of it.
        """
        self._begin(self._planned())
        self._keep.rewrite(self._plan)
        yield "plan"
        self.read_to_the_end()
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
            own = share_of(range(len(plan)), ranks)[: self.wanted]
            plan = plan[own.start : own.stop : own.step]
        set_bits(bits := self._none(), plan)
        return bits

    def _own(self) -> Bits:
        """Returns the samples that no other rank takes if this one does."""
        own, ranks = np.ones(self._keep.n, np.bool_), self._pruner.ranks
        if ranks is not None and not self._split:
            own[:] = np.arange(self._keep.n) % ranks.size == ranks.rank
            own[self._pruner.begin_epoch().indices] = False
        return np.packbits(own) | self._plan

    def read_to_the_end(self) -> None:
        """Takes note that all came that the reading for the plan had."""
        self._absent = _count(self._plan & ~self._arrived)
        self.checked = True

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
                f"{self._pruner.epoch}: either its ids are not unique (shards with equal keys; "
                "with_indices and add_column of a Hugging Face IterableDataset, which restart in "
                "every shard), or each of several workers reads the whole source: num_workers > 0 "
                "needs a source that splits its shards among them, as datasets and webdataset do"
            )
        set_bits(self._arrived, indices)

    def give(self, indices: NDArray[np.int64]) -> int:
        """Takes note of samples that go to the training loop, and returns how many they are."""
        again = _has(self._given, indices) | _has(self._before, indices)
        twice = len(indices) - len(np.unique(indices))  # within the batch
        self._repeated += int(again.sum()) + twice
        self._filled += int((~again & ~_has(self._plan, indices)).sum())
        set_bits(self._given, indices)
        return len(indices)

    def trained(self, waiting: Iterable[NDArray[np.int64]], what: str | None) -> Bits:
        """Returns what is done of the open epoch: given out, and answered or skipped.

        Args:
            waiting: The samples of each batch that was not.
            what: The occasion, of which all ranks are asked; None: this one alone.
        """
        waits, ranks = self._none(), self._pruner.ranks
        for indices in waiting:
            set_bits(waits, indices)
        bits = self._before | (self._given & ~waits)
        if ranks is not None and what is not None:
            bits = np.bitwise_or.reduce(ranks.gather(bits, what))
        return bits

    def close(self, row: Row) -> None:
        """Balances the account of an epoch that has just ended, on all ranks.

        Raises:
            RuntimeError: Samples came to two ranks.
        """
        ranks, epoch = self._pruner.ranks, row["epoch"]
        counts = [self._filled, self._repeated, self._absent or 0, int(self._absent is None)]
        twice = 0
        if ranks is not None:
            trained = np.packbits(self._pruner.left_out == 0) & ~self._before
            own = np.array([ranks.rank, _count(self._given & trained), *counts], np.int64)
            told = ranks.gather(own, f"the account of epoch {epoch}")
            # Of those that train one share together the one that gave most stands for all.
            shares = {share: rest for share, *rest in sorted(one.tolist() for one in told)}
            came, *counts = np.sum(list(shares.values()), axis=0).tolist()
            twice = came - _count(trained)
        filled, repeated, missing, unfinished = counts
        if ranks is not None and self._split:  # each of whom looked for the whole plan
            elsewhere = (ranks.size - 1) * _count(self._plan)
            missing = 0 if unfinished else max(0, missing - elsewhere)
        self.restore(None)
        figures = {"missing": missing, "filled": filled, "repeated": repeated}
        self.figures.append({"epoch": epoch, "planned": row["kept"], **figures})
        if twice > 0:
            raise RuntimeError(
                f"{twice} samples were trained on two ranks in epoch {epoch}: with split=True each "
                "rank must read its own part (split_dataset_by_node of datasets, "
                "nodesplitter=split_by_node of webdataset). Split the stream, or give split=False "
                "if every rank reads all of it; ids must be unique"
            )
        self._report(epoch, row["kept"], **figures)

    def _report(self, epoch: int, planned: int, missing: int, filled: int, repeated: int) -> None:
        if repeated:
            logger.warning(
                "epoch %d: %d of %d samples were trained once more, since a rank's part of the "
                "stream held too few: split it into more equal parts, or lower the budget",
                epoch, repeated, planned,
            )  # fmt: skip
        if missing:
            logger.warning(
                "epoch %d: %d of the %d planned samples did not come, and others replaced them: "
                "give KeepSet the ids that the stream has; with split=False every rank must read "
                "the whole stream",
                epoch, missing, planned,
            )  # fmt: skip

    @property
    def nothing(self) -> str:
        """Returns what to say of a stream that gives this rank nothing."""
        ranks = self._pruner.ranks
        return (
            f"the source gave no samples{'' if ranks is None else f' to rank {ranks.rank}'} in "
            f"epoch {self._pruner.epoch}: check that its files are found, and that there are at "
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
