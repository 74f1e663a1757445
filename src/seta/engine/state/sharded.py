"""Whether the states of a sharded table are true to themselves, and make the whole together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.state.curves import check_binning
from seta.engine.state.fields import Field, extremes
from seta.engine.state.identity import counted


def check_table(table: Field, n: int, epochs: int) -> int:
    """Checks what a sharded table has beside its columns, and returns the number of its rows."""
    partition = Partition(n, shards_of(n))
    first, last = (end.integer(0, partition.shards) for end in table["shards"].items(2))
    table["shards"].require(first < last, "[first, past the last] shard")
    for count in table["since_exchange"].items(2):
        count.integer()
    dealt = table["dealt"]
    if dealt.given:
        dealt["epoch"].integer(0, epochs - 1)
        counts = dealt["counts"].array(np.int64, partition.shards)
        within = bool(((counts >= 0) & (counts <= partition.sizes)).all())
        dealt["counts"].require(within, "at most the samples of each shard")
    _check_absent(table["losses"], partition, range(first, last))
    return (last - first) * partition.length


def check_mask(root: Field, mask: NDArray[np.uint8]) -> None:
    """Checks a part's mask: each shard has as many samples as are its due, and they are there."""
    opened, table = root["open"], root["table"]
    n, row = root["settings"]["n"].integer(), opened["row"]
    partition = Partition(n, shards_of(n))
    dealt, due = table["dealt"], partition.counts(row["kept"].integer())
    if dealt.given and dealt["epoch"].value == row["epoch"].value:
        due = dealt["counts"].value
    first, last = table["shards"].value
    full = n // partition.shards
    missing = np.arange(full, partition.length)
    lines = mask.reshape(last - first, -1)
    for block in parallel.blocks(range(first, last), max(1, parallel.BLOCK // partition.length)):
        bits = np.unpackbits(lines[block.start - first : block.stop - first], axis=1)
        if not np.array_equal(bits.sum(axis=1, dtype=np.int64), due[block]):
            opened["mask"].refuse("of as many samples in each shard as are due there", "others")
        if (bits[:, full:] & (missing >= partition.sizes[block, None])).any():
            opened["mask"].refuse(f"of the {n} samples there are", "samples beyond them")


def check_shards(roots: Sequence[Field]) -> None:
    """Checks that the parts are all shards, each once, and what they know of all losses.

    Args:
        roots: The parts, which agree.
    """
    settings = roots[0]["settings"]
    n = settings["n"].integer()
    ends = sorted(tuple(root["table"]["shards"].value) for root in roots)
    gaps = [one[1] != other[0] for one, other in pairwise(ends)]
    if any(gaps) or ends[0][0] != 0 or ends[-1][1] != shards_of(n):
        roots[0]["table"]["shards"].refuse(
            f"with those of the other parts all {shards_of(n)} shards, each once", str(ends)
        )
    shared = roots[0]["table"]["shared"]
    binning = check_binning(shared["binning"])
    counts = _check_histogram(shared["histogram"], binning.size, n)
    always = shared["kept_always"]
    kept = _check_histogram(always, binning.size, counted(settings["always_keep"].value))
    always["counts"].require(bool((kept <= counts).all()), "part of `histogram`")
    if not roots[0]["open"].given:
        low, high = binning.edges[0], binning.edges[-1]
        for root in roots:
            losses = root["table"]["losses"]
            least, most = extremes(losses.value)
            if least < low or most > high:
                losses.refuse(f"in {low:g}..{high:g}, the binning", f"{least} to {most}")


def _check_histogram(saved: Field, size: int, total: int) -> NDArray[np.int64]:
    """Checks a packed histogram, and returns its counts: int64 (size + 1,), the unseen last."""
    bins = saved["bins"].array(np.uint32, None)
    counts = saved["counts"].array(np.int64, len(bins))
    ascending = bool((bins[1:] > bins[:-1]).all()) and bool((bins < size).all())
    saved["bins"].require(ascending, f"ascending, below {size}")
    saved["counts"].within(counts, 1, total)
    unseen = saved["unseen"].integer(0, total)
    if int(counts.sum()) + unseen != total:
        saved["counts"].refuse(f"{total} together, with `unseen`", str(int(counts.sum()) + unseen))
    whole = np.zeros(size + 1, np.int64)
    whole[bins], whole[-1] = counts, unseen
    return whole


def _check_absent(losses: Field, partition: Partition, shards: range) -> None:
    """Refuses losses of rows that have no sample."""
    rows = len(shards) * partition.length
    lines = losses.array(np.float32, rows).reshape(len(shards), -1)
    full = partition.n // partition.shards
    places = np.arange(full, partition.length)
    sizes = partition.sizes[shards.start : shards.stop]
    for block in parallel.blocks(range(len(shards)), parallel.BLOCK // 8):
        absent = places >= sizes[block, None]
        if (~np.isnan(lines[block, full:]) & absent).any():
            losses.refuse("NaN in the rows without a sample", "others")
