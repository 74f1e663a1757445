"""What each method costs per sample beside random pruning: bytes held, an epoch start, recording.

Epoch starts of a method and of Random in turns, in one child process, on the same losses; then the
recording of one epoch in batches of 128. Methods that keep scores, see batches or look at classes
pay for it here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
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
            pruner = _begun(n, policy, losses, classes)
            elapsed = seconds(pruner.begin_epoch)
            if repeat:  # the first round touches the memory
                starts[name].append(elapsed)
    pruner = _begun(n, method, losses, classes)
    indices = pruner.begin_epoch().indices[: BATCH * 500]
    values = losses[indices]
    parts = range(0, len(indices), BATCH)
    recording = seconds(
        lambda: [pruner.record(indices[at : at + BATCH], values[at : at + BATCH]) for at in parts]
    )
    state = pruner.state_dict()
    columns = ["losses", "last_trained", *(key for key in state if key.startswith("column."))]
    return {
        "method": method,
        "n": n,
        "start_seconds": median(starts["method"]),
        "start_ratio": median_ratio(starts["method"], starts["random"]),
        "record_seconds_per_batch": recording / len(parts),
        "bytes": sum(state[key].nbytes for key in columns) / n,
        "raw": starts,
    }


def _begun(n: int, policy: str, losses: Any, classes: Any) -> Pruner:
    """A run that has come to its second epoch, whose scores are to be taken anew."""
    pruner = Pruner(n, policy, epochs=30, losses=losses, strata=classes, threads=THREADS)
    pruner.next_epoch = 10
    return pruner


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
