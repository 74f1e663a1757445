"""What each method costs per sample beside random pruning: bytes held, an epoch start, recording.

Epoch starts of a method and of Random in turns, in one child process, on the same losses, after
some visits to all samples; then the recording of one epoch in batches of 128. Methods that keep
scores, see batches or look at classes pay for it here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.epoch_start import gamma_losses
from benchmarks.measure import THREADS, Bar, Result, child, median_ratio, seconds
from seta import Pruner
from seta.policies import REGISTRY

CLASSES = 1000
BATCH = 128
REPEATS = 7
EPOCH = 10  # in which scores are taken anew
VISITS = 4  # so many, and `Learnable` judges


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures each method in a child of its own."""
    n = 2_000 if quick else 3_000_000
    result = Result("methods")
    for method in REGISTRY:
        tell(f"methods, {method}, {n:,} samples")
        result.rows.append(child(__spec__.name, {"n": n, "method": method}))
    slowest = max(result.rows, key=lambda row: float(row["start_ratio"]))
    largest = max(result.rows, key=lambda row: float(row["bytes"]))
    result.bars = [
        Bar(f"epoch start, {slowest['method']} beside Random", slowest["start_ratio"], 10, "x"),
        Bar(f"held, {largest['method']}", largest["bytes"], 14, "bytes/sample"),
    ]
    return result


def _measure(n: int, method: str) -> dict[str, Any]:
    starts: dict[str, list[float]] = {"method": [], "random": []}
    losses = gamma_losses(n)
    pruners = {"method": _made(method, losses), "random": _made("Random", losses)}
    for repeat in range(REPEATS + 1):
        for name, pruner in pruners.items():
            elapsed = seconds(partial(pruner.begin_epoch, EPOCH))
            if repeat:  # the first round touches the memory
                starts[name].append(elapsed)
            if repeat < REPEATS:
                pruner.forget_epoch()
    pruner = pruners["method"]
    indices = pruner.begin_epoch(EPOCH)[: BATCH * 500]
    values = losses[indices]
    parts = range(0, len(indices), BATCH)
    recording = seconds(
        lambda: [pruner.record(indices[at : at + BATCH], values[at : at + BATCH]) for at in parts]
    )
    table = pruner.state_dict(copy=False)["table"]
    columns = [table["losses"], table["last_trained"], *table["columns"].values()]
    return {
        "method": method,
        "n": n,
        "start_seconds": median(starts["method"]),
        "start_ratio": median_ratio(starts["method"], starts["random"]),
        "record_seconds_per_batch": recording / len(parts),
        "bytes": sum(column.nbytes for column in columns) / n,
        "raw": starts,
    }


def _made(policy: str, losses: NDArray[np.float32]) -> Pruner:
    """Returns a pruner whose samples were all visited, each time with another of the losses."""
    n = len(losses)
    classes = np.random.default_rng(0).integers(0, CLASSES, n).astype(np.uint16)
    pruner = Pruner(n, policy, epochs=30, strata=classes, threads=THREADS)
    for visit in range(VISITS):
        pruner.begin_epoch(visit)
        pruner.record(np.arange(n), np.roll(losses, visit))
    pruner.end_epoch()
    return pruner


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
