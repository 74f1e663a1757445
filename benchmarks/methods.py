"""What each method costs per sample beside random pruning: bytes held, an epoch start, recording.

Epoch starts of a method and of Random in turns, in one child process, on the same losses; then the
recording of one epoch in batches of 128. Methods that keep scores, see batches or look at classes
pay for it here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.epoch_start import gamma_losses
from benchmarks.measure import THREADS, Bar, Result, child, median_ratio, seconds
from seta import Pruner
from seta.policies import REGISTRY

CLASSES = 1000
BATCH = 128
REPEATS = 7
EPOCH = 10  # in which scores are taken anew


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
    classes = np.random.default_rng(0).integers(0, CLASSES, n).astype(np.uint16)
    for repeat in range(REPEATS + 1):
        for name, policy in (("method", method), ("random", "Random")):
            pruner = _made(n, policy, losses, classes)
            elapsed = seconds(partial(pruner.begin_epoch, EPOCH))
            if repeat:  # the first round touches the memory
                starts[name].append(elapsed)
    pruner = _made(n, method, losses, classes)
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


def _made(n: int, policy: str, losses: Any, classes: Any) -> Pruner:
    return Pruner(n, policy, epochs=30, losses=losses, strata=classes, threads=THREADS)


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
