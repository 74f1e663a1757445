"""One rank of `benchmarks.ranks`: its epochs, our way and the published one, and what they cost.

It runs in a process of a torch group. The published way is written by us: in every step the indices
and losses of a batch go into one float32 tensor, which is gathered from all processes.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.epoch_start import _forget_peak, _peak, _resident
from benchmarks.measure import THREADS, seconds

WAYS = ("replicated", "sharded")
EPOCHS, BUDGET = 10, 0.6
POOL = 1 << 20  # losses, from which every batch takes some

Array = npt.NDArray[Any]
Batches = list[tuple[Array, Array]]
Figures = dict[str, float]


def take_turns(n: int, batch: int, turns: int) -> dict[str, dict[str, list[float]]]:
    """The figures of this rank's epochs by way, turn by turn; those of epoch 0 are left out."""
    import torch

    made = _count_collectives()
    ranks = Counted()
    ours = {way: Epochs(n, batch, way, ranks) for way in WAYS}
    scores = torch.full((n,), 3.0)
    raw: dict[str, Any] = {way: defaultdict(list) for way in (*WAYS, "published")}
    for turn in range(turns + 1):
        found, batches = {}, {}
        for way, epochs in ours.items():
            found[way], batches[way] = epochs.train(made)
        found["published"] = _train_published(batches["replicated"], scores, made)
        for way, figures in found.items():
            for name, figure in figures.items() if turn else ():
                raw[way][name].append(figure)
    return raw


def memory(n: int, batch: int, way: str, *, give_back: bool) -> dict[str, int]:
    """Bytes of this rank's table, and of its process at most, beyond what it had before.

    Args:
        n: Number of samples.
        batch: Samples per step.
        way: How the losses are held.
        give_back: Whether the allocator gives back at once what is freed.
    """
    if give_back:
        _give_back()
    ranks, made = Counted(), Counter[str]()
    Epochs(5_000, 8, way, ranks).train(made)  # what is loaded late
    before = _resident()
    epochs = Epochs(n, batch, way, ranks)
    _forget_peak()
    for _ in range(4):
        epochs.train(made)
    peak = _peak() - before
    held = epochs.pruner.state_dict(copy=False)["table"]
    table = sum(held[name].nbytes for name in ("losses", "last_trained"))
    return {"table": table, "peak": peak}


def _give_back() -> None:
    """Has glibc give back at once what is freed; other allocators go on as they do."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 1 << 16)


class Counted:
    """The processes of the group, with a count of what passes through this one."""

    def __init__(self) -> None:
        from seta.torch.ranks import ProcessRanks

        self._ranks = ranks = ProcessRanks()
        self.rank, self.size = ranks.rank, ranks.size
        self.process, self.processes = ranks.process, ranks.processes
        self.forget()

    def forget(self) -> None:
        """Begins to count anew."""
        self.told = self.sent = self.received = 0
        self.seconds = 0.0
        self.occasions: list[str] = []

    def gather(self, values: Array, what: str) -> list[Array]:
        """In a ring everything is passed on but what the next rank has said itself."""
        parts: list[Array] = self._timed(partial(self._ranks.gather, values, what), what)
        everything = sum(part.nbytes for part in parts)
        following = parts[(self.process + 1) % self.processes]
        self._note(values.nbytes, everything - following.nbytes, everything - values.nbytes)
        return parts

    def sum(self, counts: npt.NDArray[np.int64], what: str) -> npt.NDArray[np.int64]:
        """In a ring each part of the sum goes round twice: as it grows, and when it is done."""
        total: npt.NDArray[np.int64] = self._timed(partial(self._ranks.sum, counts, what), what)
        passed = 2 * (self.processes - 1) * counts.nbytes // self.processes
        self._note(counts.nbytes, passed, passed)
        return total

    def _timed(self, call: Callable[[], Any], what: str) -> Any:
        started = time.perf_counter()
        answer = call()
        self.seconds += time.perf_counter() - started
        self.occasions.append(what)
        return answer

    def _note(self, told: int, sent: int, received: int) -> None:
        self.told += told
        self.sent += sent
        self.received += received


def _count_collectives() -> Counter[str]:
    """Counts torch's collectives in this process, from now on."""
    import torch.distributed as dist

    made: Counter[str] = Counter()

    def counted(name: str, collective: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        made[name] += 1
        return collective(*arguments, **options)

    for name in ("all_gather", "all_reduce"):
        setattr(dist, name, partial(counted, name, getattr(dist, name)))
    return made


class Epochs:
    """A run of this rank, epoch by epoch.

    Args:
        n: Number of samples.
        batch: Samples per step.
        way: How the losses are held.
        ranks: The processes.
    """

    def __init__(self, n: int, batch: int, way: Any, ranks: Counted) -> None:
        from seta import Pruner

        self.pruner = Pruner(
            n,
            "SeTa",
            epochs=EPOCHS,
            budget=BUDGET,
            batch_size=batch,
            threads=THREADS,
            ranks=ranks,
            sharding=way,
        )
        self._ranks, self._batch = ranks, batch

    def train(self, made: Mapping[str, int]) -> tuple[Figures, Batches]:
        """Goes through the next epoch; returns its figures, and its batches.

        Args:
            made: The count of torch's collectives.
        """
        ranks, before = self._ranks, sum(made.values())
        ranks.forget()
        _wait_for_all()
        start = seconds(self.pruner.begin_epoch)
        batches = self._batches()
        for indices, losses in batches:
            self.pruner.record(indices, losses)
        early = len(ranks.occasions)  # calls outside of the end of the epoch
        _wait_for_all()
        end = seconds(self.pruner.end_epoch)
        return {
            "told": ranks.told,
            "sent": ranks.sent,
            "received": ranks.received,
            "trained": sum(len(indices) for indices, _ in batches),
            "calls": len(ranks.occasions),
            "collectives": sum(made.values()) - before,
            "exchanges": early + len(set(ranks.occasions[early:])),
            "start_seconds": start,
            "end_seconds": end,
            "communication_seconds": ranks.seconds,
        }, batches

    def _batches(self) -> Batches:
        """Indices and losses of this rank's steps: views."""
        share, batch = self.pruner.share().indices, self._batch
        pool, places = _pool(self._ranks.rank), POOL // batch
        batches = []
        for step, start in enumerate(range(0, len(share), batch)):
            indices = share[start : start + batch]
            batches.append((indices, pool[step % places * batch :][: len(indices)]))
        return batches


@cache
def _pool(rank: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(rank).standard_gamma(2.0, POOL, np.float32)


def _wait_for_all() -> None:
    import torch.distributed as dist

    dist.barrier()


def _train_published(batches: Batches, scores: Any, made: Mapping[str, int]) -> Figures:
    """An epoch the published way; only the gathers are timed."""
    import torch

    told = received = 0
    elapsed, before = 0.0, sum(made.values())
    _wait_for_all()
    for indices, losses in batches:
        own = torch.stack([torch.from_numpy(indices.astype(np.float32)), torch.from_numpy(losses)])
        started = time.perf_counter()
        everyone = _gather_batch(own)
        elapsed += time.perf_counter() - started
        scores[everyone[0].long()] = everyone[1]
        told += own.nbytes
        received += everyone.nbytes - own.nbytes
    return {
        "told": told,
        "sent": received,  # in a ring, of equal parts
        "received": received,
        "trained": sum(len(indices) for indices, _ in batches),
        "collectives": sum(made.values()) - before,
        "communication_seconds": elapsed,
    }


def _gather_batch(own: Any) -> Any:
    """The batches of all processes: float32 (2, ranks x B), indices and losses.

    Indices are floats here, exact up to 2**24 and no further.

    Args:
        own: float32 (2, B), of this process, of one size on all.
    """
    import torch
    import torch.distributed as dist

    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts, dim=1)
