"""JAX with several processes: the share of each process, and the exchange of losses.

    jax.distributed.initialize()
    rows = NamedSharding(Mesh(jax.devices(), "data"), PartitionSpec("data"))
    local = global_batch // jax.process_count()
    pruner = Pruner(n, "SeTa", epochs=10, budget=0.6, batch_size=local, ranks=ranks_of(rows))
    for indices, weights in batches(pruner):
        inputs = jax.make_array_from_process_local_data(rows, images[indices])
        ...
        pruner.record(indices, local_rows(losses))

A single process does not need this, whatever number of devices it has: `ranks` is None then.

All that processes exchange goes as 32-bit words: JAX makes int32 of int64 (and float32 of float64)
unless `jax_enable_x64` is set, so that 2**40 would arrive as 0. Two small collectives per call; for
a moment each device holds what all processes sent, padded to a power of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from seta.extras import require

require("seta.integrations.jax", "jax", extra="jax")

import jax  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

if TYPE_CHECKING:
    from jax.sharding import Sharding

__all__ = ["ProcessRanks", "local_rows", "ranks_of"]

_TEXT = 72  # bytes of a header for the occasion


def ranks_of(rows: Sharding | None = None) -> ProcessRanks | None:
    """Returns the `ranks=` of a pruner for the processes of JAX; None for a single process.

    Call `jax.distributed.initialize` first.

    Args:
        rows: How batches are sharded over the devices, as for `ProcessRanks`.
    """
    return None if jax.process_count() == 1 else ProcessRanks(rows)


class ProcessRanks:
    """The processes of `jax.distributed`; implements `seta.engine.table.ranks.Ranks`.

    An exchange waits for all processes, without a timeout of its own. If a process dies, JAX
    notices and ends the others.

    Args:
        rows: How batches are sharded over the devices: the sharding of arrays whose first axis is
            samples. Processes that hold the same rows (a tensor-parallel group) train the same
            samples. None: each process trains a share of its own.

    Raises:
        ValueError: The sharding assigns rows unevenly, so that there are no equal shares.
    """

    def __init__(self, rows: Sharding | None = None) -> None:
        self.process, self.processes = jax.process_index(), jax.process_count()
        self.rank, self.size = self.process, self.processes
        if rows is not None:
            shares = shares_of(_rows_by_process(rows, self.processes))
            self.rank, self.size = shares[self.process], max(shares) + 1

    def gather(self, values: NDArray[Any], what: str) -> list[NDArray[Any]]:
        """Returns the arrays of all processes, by process number; they may differ in length.

        Raises:
            RuntimeError: Another process made another call.
        """
        occasion = what.encode()
        own = np.array([self.process, values.nbytes, crc32(occasion)], np.int64)
        told = _all_gather(own.tobytes() + occasion[:_TEXT].ljust(_TEXT))
        headers = told[:, : own.nbytes].copy().view(np.int64)
        places = np.argsort(headers[:, 0])  # of processes 0, 1, ... among the parts
        others = [place for place in places if headers[place, 2] != own[2]]
        if others:
            other = told[others[0], own.nbytes :].tobytes().decode(errors="replace").rstrip()
            raise RuntimeError(
                f"process {self.process} came to {what}, process {headers[others[0], 0]} to "
                f"{other}: all processes make the same calls in the same order (pruners made, "
                "end_epoch, state_dict in mid-epoch)"
            )
        sizes = headers[places, 1].tolist()
        if not max(sizes):
            return [values[:0]] * self.processes
        padded = values.tobytes().ljust(1 << (max(sizes) - 1).bit_length(), b"\0")
        parts = _all_gather(padded)[places]
        return [
            part[:size].copy().view(values.dtype) for part, size in zip(parts, sizes, strict=True)
        ]

    def sum(self, counts: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """Returns the elementwise sum over all processes."""
        total: NDArray[np.int64] = np.stack(self.gather(counts, what)).sum(axis=0)
        return total


def local_rows(array: jax.Array) -> NDArray[Any]:
    """Returns this process's rows of an array that is sharded over the devices of all processes.

    They are in the order of `jax.make_array_from_process_local_data`, so that the losses of a batch
    match the samples that this process put into it. Waits for the devices.

    Args:
        array: Array (B, ...) whose first axis is the samples of a batch; other axes must not be
            sharded.

    Returns:
        Array (B of this process, ...).
    """
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def shares_of(rows: list[frozenset[int]]) -> list[int]:
    """Returns which share each process trains: those with the same rows one together.

    Args:
        rows: Of each process, the rows of a batch that lie on its devices.

    Raises:
        ValueError: Some overlap, or are not equally many.
    """
    shares = sorted(set(rows), key=min)
    if len({len(share) for share in shares}) > 1 or sum(map(len, shares)) > len(set().union(*rows)):
        raise ValueError(
            "rows must give each process equally many rows of a batch, the same as another process "
            f"or none of its rows, got {[sorted(share) for share in rows]}: order the devices of "
            "the mesh so that those of one process are adjacent along the axis of the batch"
        )
    return [shares.index(share) for share in rows]


def _rows_by_process(rows: Sharding, processes: int) -> list[frozenset[int]]:
    """Returns the rows that each process holds, of as many rows as there are devices."""
    count = len(rows.device_set)
    places: Mapping[Any, Any] = rows.devices_indices_map((count,))
    held: list[set[int]] = [set() for _ in range(processes)]
    for device, (place,) in places.items():
        held[device.process_index].update(range(count)[place])
    if not all(held):
        raise ValueError(
            f"rows must lie over devices of all {processes} processes, got a sharding without "
            f"process {held.index(set())}: make its mesh of jax.devices()"
        )
    return [frozenset(part) for part in held]


def _all_gather(message: bytes) -> NDArray[np.uint8]:
    """Returns the messages of all processes, uint8 (processes, bytes), equally long each."""
    words = np.frombuffer(message.ljust(-(-len(message) // 4) * 4, b"\0"), np.uint32)
    gathered = np.ascontiguousarray(multihost_utils.process_allgather(words))
    return gathered.reshape(-1, len(words)).view(np.uint8)
