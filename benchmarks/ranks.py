"""What the processes of a run tell each other: bytes, calls and time, beside the published way.

2 and 4 processes on this machine (gloo) go through epochs without a model: SeTa with its defaults
and a budget of 0.6, gamma losses handed to `Pruner.record` in batches. Losses replicated, losses
sharded and the published way take turns in the same processes, the published way with the samples
and batches of the replicated one: an all-gather of the global batch in every step (`exchange`).

Bytes are payload, counted where the engine hands it to the `Ranks`: `told` is what a rank has to
say; `sent` and `received` are what passes through it in a ring, as gloo has it. `collectives` are
torch's, of which a `gather` takes two. Times begin when all ranks are there, and are those of the
slowest; what is spent in the calls counts as communication, with the waiting for others.

Memory is taken in processes of their own, which choose with two threads: at most, beyond what they
had before the pruner. `peak` is what is held, `resident` what the process has with the allocator as
it comes, which keeps some of what is freed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.exchange import BUDGET, EPOCHS, WAYS, memory, take_turns
from benchmarks.measure import Bar, Result, child, median_ratio
from benchmarks.scale_table import planned

RANKS = (2, 4)
TURNS = EPOCHS - 2  # epoch 0 is not counted, and the last one is none of SeTa's windows


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures every size with every number of ranks, each in a child, which forks the ranks."""
    result = Result("ranks")
    size = {"batch": 64, "turns": 2} if quick else {"batch": 1024, "turns": TURNS}
    for n in [20_000] if quick else [1_000_000, 10_000_000]:
        for ranks in RANKS:
            tell(f"{ranks} ranks, {n:,} samples")
            result.rows += child(__spec__.name, {"n": n, "ranks": ranks, **size})
    result.bars = _bars(result.rows)
    return result


def _bars(rows: list[dict[str, Any]]) -> list[Bar]:
    replicated, sharded = ([row for row in rows if row["way"] == way] for way in WAYS)
    ours = replicated + sharded
    told = max(max(row["raw"]["told"]) for row in sharded) / 1e6
    per_sample = max(row["told"] / row["trained"] for row in replicated)
    other = sum(number != 1 for row in ours for number in row["raw"]["exchanges"])
    beside = max(row["received"] / planned(row["run"]).exchange.received for row in ours)
    return [
        Bar("sharded: a rank tells per epoch, at most", told, 2, "MB"),
        Bar("replicated: a rank tells per sample that it trained", per_sample, 8.1, "bytes"),
        Bar("epochs with more or fewer exchanges than one", other, 0, ""),
        Bar("a rank receives per epoch, beside what seta plan says", beside, 1.01, "x"),
    ]


def _measure(n: int, ranks: int, batch: int, turns: int) -> list[dict[str, Any]]:
    """The rows of one size: both ways of ours, and the published one."""
    answers = _on_ranks(ranks, partial(take_turns, n, batch, turns))
    raw = {way: _most([answer[way] for answer in answers]) for way in answers[0]}
    rows = []
    for way, found in raw.items():
        row: dict[str, Any] = {"n": n, "ranks": ranks, "way": way, "batch": batch}
        row |= {name: median(values) for name, values in found.items()}
        if way in WAYS:
            row |= _beside(raw["published"], found) | _memory_of_ranks(n, ranks, batch, way)
            row["run"] = {
                "samples": n,
                "ranks": ranks,
                "batch-size": batch,
                "sharding": way,
                "epochs": EPOCHS,
                "budget": BUDGET,
            }
        rows.append(row | {"raw": found})
    return rows


def _most(answers: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The most of any rank, turn by turn."""
    return {
        name: [max(turn) for turn in zip(*(answer[name] for answer in answers), strict=True)]
        for name in answers[0]
    }


def _beside(published: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, float]:
    """Published gathers beside our calls, and beside all of `end_epoch`; the dearer epoch start."""
    gathers, starts = published["communication_seconds"], ours["start_seconds"]
    return {
        "choose_seconds": max(median(starts[kind::2]) for kind in (0, 1)),
        "times_faster": median_ratio(gathers, ours["communication_seconds"]),
        "times_faster_than_end": median_ratio(gathers, ours["end_seconds"]),
    }


def _memory_of_ranks(n: int, ranks: int, batch: int, way: str) -> dict[str, int]:
    """Bytes: the largest table, and what the largest process has at most."""
    held, kept = (
        _on_ranks(ranks, partial(memory, n, batch, way, give_back=give_back))
        for give_back in (True, False)
    )
    return {
        "table": max(rank["table"] for rank in held),
        "peak": max(rank["peak"] for rank in held),
        "resident": max(rank["peak"] for rank in kept),
    }


def _on_ranks(size: int, part: Callable[[], Any]) -> list[Any]:
    """What `part()` returns on each rank, in fresh processes of a gloo group."""
    import torch

    import seta.torch.ranks  # noqa: F401 - once, before the ranks are forked

    # The store is a file: one that listens has threads, and a process with threads must not fork.
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _rank, (size, part, Path(folder)), nprocs=size, start_method="fork"
        )
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(size)]


def _rank(rank: int, size: int, part: Callable[[], Any], folder: Path) -> None:
    import torch.distributed as dist

    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    (folder / str(rank)).write_text(json.dumps(part()))
    dist.destroy_process_group()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(_measure(**asked)))
