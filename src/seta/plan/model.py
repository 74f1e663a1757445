"""The cost model: the bytes that a run holds and sends, as functions of its sizes.

Bottom of `seta.plan`: integers in, integers out; no clock, no arrays, microseconds. A *rank* is one
training process. Every figure is one that can be measured, so each says exactly what it counts;
`benchmarks.scale_table` puts measured ones beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from seta.engine.curves.histogram import MAX_BINS, bins_for
from seta.engine.table.table import SHARDED_FROM, Sharding

__all__ = [
    "Exchange",
    "Memory",
    "default_sharding",
    "memory",
    "published_exchange",
    "replicated_exchange",
    "sharded_exchange",
]

LOSS_BYTES = 4
HEADER_BYTES = 32
"""What each rank tells first: its number, how much it recorded, and two digests."""

SHARDS_BYTES = 48
"""What it tells besides where losses are sharded: totals of its epoch, the range of its losses."""

ROUND = 1 << 24
"""Records of all ranks together that are exchanged at a time."""

_BLOCK = 1 << 17  # samples that a thread works on at a time
_WORK, _WORK_PER_THREAD = 6 << 20, 5 << 20  # at most, measured


def default_sharding(samples: int, ranks: int) -> Sharding:
    """Returns "sharded" where the ranks share one loss table by default, else "replicated"."""
    return "sharded" if ranks > 1 and samples >= SHARDED_FROM else "replicated"


def index_bytes(samples: int) -> int:
    """Returns the bytes of a sample's index: 4, from 2**32 samples on 8."""
    return 4 if samples < 2**32 else 8


def table_bytes(rows: int, epochs: int, columns: int = 0) -> int:
    """Returns the bytes of a loss table: for each sample its loss, and when it was trained.

    6 per sample; 8 where the number of an epoch no longer fits into 2 bytes; and 4 for each column
    that the method keeps.
    """
    return rows * (LOSS_BYTES * (1 + columns) + (2 if epochs < 0xFFFF else 4))


def class_bytes(rows: int, classes: int) -> int:
    """Returns the bytes of the classes of samples: 1 each, 2 of more than 256 classes, or 4."""
    return rows * (1 if classes <= 1 << 8 else 2 if classes <= 1 << 16 else 4)


@dataclass(frozen=True)
class Memory:
    """Bytes that a rank holds, beside the model and the data.

    Attributes:
        table: The loss table, always.
        classes: Where the method looks at them, the class of each of its samples; always.
        mask: A bit for each of its samples, while an epoch is open.
        order: The counts by which the samples are looked up that come next, 0.11 bytes for each of
            its samples at most, while an epoch is open.
        weights: Where the method has some, which one each of its samples has: a byte each; while an
            epoch is open.
        bins: The histogram and the keep curve made of it, while an epoch is open.
        work: Temporaries of the start of an epoch, at most.
        log: Index and loss of each sample that the rank trained, until the exchange at the end of
            the epoch: in the pieces that they were noted in, whose memory the allocator keeps, and
            joined; and the losses once more, as they are handed to torch.
        received: Records of all ranks that are held at a time during the exchange, and the copy
            that torch makes of the losses among them.
    """

    table: int
    classes: int
    mask: int
    order: int
    weights: int
    bins: int
    work: int
    log: int
    received: int

    @property
    def always(self) -> int:
        """What stays from epoch to epoch: table and classes."""
        return self.table + self.classes

    @property
    def open(self) -> int:
        """What every moment of an epoch needs: what stays, mask, order, weights and bins."""
        return self.always + self.mask + self.order + self.weights + self.bins

    @property
    def peak(self) -> int:
        """The most at any time: at the start of an epoch, or at the end of it."""
        return self.open + max(self.work, self.log + self.received)


def memory(
    samples: int,
    rows: int,
    *,
    epochs: int,
    logged: int = 0,
    exchanged: int = 0,
    weighted: bool = False,
    columns: int = 0,
    classes: int | None = None,
    threads: int = 2,
) -> Memory:
    """Returns what a rank holds.

    Args:
        samples: Of the dataset, for the width of an index.
        rows: Samples whose losses the rank keeps: all where they are replicated.
        epochs: Of the run, for the width of an epoch's number.
        logged: Samples that the rank trains in the longest epoch and tells the others of:
            0 on a single rank, and where each rank trains the samples that it owns.
        exchanged: The same of all ranks together.
        weighted: Whether the method weights losses.
        columns: Numbers per sample that the method keeps beside the loss.
        classes: How many the samples have; None: the method does not look at them.
        threads: That choose.
    """
    index = index_bytes(samples)
    work = _WORK + _WORK_PER_THREAD * min(threads, -(-rows // _BLOCK))
    return Memory(
        table=table_bytes(rows, epochs, columns),
        classes=0 if classes is None else class_bytes(rows, classes),
        mask=-(-rows // 8),
        order=-(-rows * 7 // 64),
        weights=rows if weighted else 0,
        bins=4 * 8 * _cells(classes or 1),
        work=work,
        log=logged * (2 * (index + LOSS_BYTES) + LOSS_BYTES),
        received=min(exchanged, ROUND) * (index + 2 * LOSS_BYTES),
    )


def _cells(classes: int) -> int:
    """Returns the bins of all classes together, at most: losses fill half of them or more.

    129 to 4,095 classes have up to four times as many where a loss is nearly 0.
    """
    return classes * bins_for(classes)


@dataclass(frozen=True)
class Exchange:
    """Payload of an exchange between ranks, without what the transport adds.

    Attributes:
        own: Bytes that one rank has to tell.
        sent: Bytes that one rank sends, what it passes on for others included (a ring).
        received: Bytes that one rank receives.
        collectives: Collective operations that training waits for, per epoch. The calls that make
            up one exchange at the end of an epoch count as one.
        ranks: Number of ranks.
    """

    own: int
    sent: int
    received: int
    collectives: int
    ranks: int

    @property
    def network(self) -> int:
        """Bytes that all ranks receive together."""
        return self.received * self.ranks


def _all_gathered(ranks: int, own: int, collectives: int) -> Exchange:
    """Every rank learns what each has to tell: in a ring, all but one's own is passed on."""
    others = own * (ranks - 1)
    return Exchange(own, others, others, collectives if ranks > 1 else 0, ranks)


def replicated_exchange(samples: int, ranks: int, trained: int) -> Exchange:
    """Returns an epoch's exchange where every rank keeps all losses.

    Index and loss of every trained sample go to every rank: 8 bytes each, 12 from 2**32 samples on.

    Args:
        samples: Of the dataset.
        ranks: Number of ranks.
        trained: Samples that all ranks together trained, equally many on each.
    """
    records = trained // ranks * (index_bytes(samples) + LOSS_BYTES)
    return _all_gathered(ranks, records + HEADER_BYTES, 1)


def sharded_exchange(ranks: int, bins: int = MAX_BINS, columns: int = 0) -> Exchange:
    """Returns an epoch's exchange where each rank trains the samples whose losses it keeps.

    The headers are all-gathered, and the histograms summed over all ranks: in a ring, a rank sends
    and receives twice the (W - 1) / W part of it. Nothing grows with the samples.

    Args:
        ranks: Number of ranks.
        bins: Of a histogram; at least half the most there may be, unless losses are few.
        columns: That the policy wants counted: another range, two float64, and histogram for each.
    """
    headers = _all_gathered(ranks, HEADER_BYTES + SHARDS_BYTES + 16 * columns, 1)
    counts = 8 * (bins + 1) * (1 + columns)  # int64; one more for the samples without a loss
    passed = headers.sent + 2 * (ranks - 1) * counts // ranks
    return Exchange(headers.own + counts, passed, passed, headers.collectives, ranks)


def published_exchange(ranks: int, batch_size: int, trained: int) -> Exchange:
    """Returns an epoch's exchanges with a gather in every step, for comparison.

    Every step all-gathers index and loss of the global batch, as two float32 per sample.

    Args:
        ranks: Number of ranks.
        batch_size: Samples per step and rank.
        trained: Samples that all ranks together trained, equally many on each.
    """
    own = trained // ranks
    return _all_gathered(ranks, own * 2 * LOSS_BYTES, -(-own // batch_size))
