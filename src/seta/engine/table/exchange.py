"""The exchange at the end of an epoch: sends the records of each process to all others.

First a header of about 30 bytes per process: the number of its records, and digests of its settings
and its selection, to detect processes that do not agree. Then the records, in rounds of bounded
memory: indices as integers, losses as floats, never in one array.

Bytes: each process sends 8 per sample that it trained (12 from 2**32 samples on), and receives as
much from each of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.table.log import RecordLog
from seta.engine.table.ranks import Ranks

_ROUND = 1 << 24  # records in a round, of all processes together

DIGESTS = ("settings", "selection of the epoch")
"""What the digests of the header are of."""


def agree(ranks: Ranks, settings: Mapping[str, Any], what: str) -> None:
    """Compares what all processes must have in common, the number of shares among it.

    Raises:
        RuntimeError: They differ: the first difference is named, with both values.
    """
    own = {name: repr(value) for name, value in {"shares": ranks.size, **settings}.items()}
    told = np.frombuffer(json.dumps(own).encode(), np.uint8)
    for process, other in enumerate(ranks.gather(told, what)):
        theirs = json.loads(other.tobytes())
        for name, value in own.items():
            if theirs.get(name) != value:
                raise RuntimeError(
                    f"{what}: the processes do not agree: process {ranks.process} has {name}="
                    f"{value}, and process {process} has {name}={theirs.get(name)}. Give each the "
                    "same dataset and the same arguments"
                )


def digest_of(*parts: bytes | memoryview) -> int:
    """Returns 62 bits that tell contents apart."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little") >> 2


def check_in(ranks: Ranks, records: int, digests: Sequence[int], what: str) -> NDArray[np.int64]:
    """Exchanges the headers.

    Args:
        ranks: The processes.
        records: How many records this process has.
        digests: As many as `DIGESTS`.
        what: The occasion.

    Returns:
        int64 (processes,): how many records of each process count. Of those that train one share
        together the one that has most stands for all; the others have 0.

    Raises:
        RuntimeError: The digests differ, or a process came for something else.
    """
    own = np.array([ranks.rank, records, *digests], np.int64)
    headers = equally_long(ranks, own, what)
    for name, column in zip(DIGESTS, headers[:, 2:].T, strict=True):
        if (column != column[0]).any():
            others = np.flatnonzero(column != column[0]).tolist()
            raise RuntimeError(
                f"{what}: the processes do not agree: {_named(others)} another {name} than process "
                "0. Give each the same arguments, the same state and the same `losses`, and record "
                "losses through the loader only"
            )
    counts = np.zeros(len(headers), np.int64)
    for share in range(ranks.size):
        members = np.flatnonzero(headers[:, 0] == share)
        first = members[np.argmax(headers[members, 1])]
        counts[first] = headers[first, 1]
        if not counts[first]:
            counts[members] = -1  # nobody stands for this share
    return counts


def equally_long(ranks: Ranks, own: NDArray[Any], what: str) -> NDArray[Any]:
    """Gathers equally many values of each process: (processes, values).

    Raises:
        RuntimeError: Some have another number: they came for something else, and these `ranks` let
            it pass.
    """
    parts = ranks.gather(own, what)
    others = [process for process, part in enumerate(parts) if len(part) != len(own)]
    if others:
        raise RuntimeError(
            f"process {ranks.process} came to {what}, process {others[0]} to another call: all "
            "processes must make the same calls in the same order (end_epoch, state_dict within an "
            "epoch)"
        )
    return np.stack(parts)


def refuse_idle(counts: NDArray[np.int64], what: str) -> None:
    """Raises if a share was not trained at all while others were.

    Raises:
        RuntimeError: Names the processes.
    """
    idle = np.flatnonzero(counts < 0).tolist()
    if idle and counts.max() > 0:
        raise RuntimeError(
            f"{what}: {_named(idle)} no losses of this epoch, while others have up to "
            f"{counts.max()}: each process must iterate over its own share of the epoch and call "
            "update() with the losses. If other code shards the loader a second time "
            "(accelerator.prepare, a DistributedSampler), remove it"
        )


def refuse_dealt_again(
    recorded: int, share: int, batch: int, size: int, in_order: Callable[[], bool]
) -> None:
    """Raises if a complete share came back as if it had been split among the ranks a second time.

    Args:
        recorded: Losses that came back.
        share: Samples that were given out.
        batch: The largest number of losses that came at once.
        size: Number of ranks.
        in_order: Returns whether they are the first ones of the share, as after a break.

    Raises:
        RuntimeError: One in `size` came back, to within a batch, and not the first ones.
    """
    few = abs(recorded * size - share) <= size * batch and recorded < share - batch
    if few and not in_order():
        raise RuntimeError(
            f"of the {share} samples of this rank's share the losses of {recorded} came back, one "
            f"in {size}: other code splits the share among the {size} ranks a second time. Use "
            "PrunedSampler(share=False) if a framework does so (accelerator.prepare, Trainer), or "
            "switch that off (use_distributed_sampler=False, add_dist_sampler=False). If these "
            "samples alone have a loss, such as those with a label, record NaN for the others, "
            "which keeps their earlier losses"
        )


def _named(processes: list[int]) -> str:
    one = len(processes) == 1
    listed = ", ".join(str(process) for process in processes[:8])
    more = f" and {len(processes) - 8} more" if len(processes) > 8 else ""
    return f"process{'' if one else 'es'} {listed}{more} {'has' if one else 'have'}"


def rounds(
    ranks: Ranks, log: RecordLog, counts: NDArray[np.int64], what: str
) -> Iterator[tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.float32]]]:
    """Yields the records of all processes, the same on each, round by round in process order.

    Args:
        ranks: The processes.
        log: What this one recorded.
        counts: Of the records of each process that count, from `check_in`.
        what: The occasion.
    """
    indices, losses = log.arrays()
    if counts[ranks.process] <= 0:
        indices, losses = indices[:0], losses[:0]
    step = max(1, _ROUND // ranks.processes)
    for start in range(0, max(0, int(counts.max())), step):
        part = slice(start, start + step)
        yield from zip(
            ranks.gather(indices[part], what), ranks.gather(losses[part], what), strict=True
        )
