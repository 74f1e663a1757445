"""What a budget costs at an epoch start, whether it is exact, and what saving a state costs.

Epoch starts with and without a budget in turns, on the same losses. The state is saved in
mid-epoch, beside `numpy.save` of as many bytes, with and without waiting for the disk.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.epoch_start import gamma_losses
from benchmarks.measure import THREADS, Bar, Result, child, median_ratio, seconds

METHODS = ("SeTa", "InfoBatch", "Random")
REPEATS = 6
BUDGET = 0.6


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures each part in a child of its own."""
    n, largest = (2_000, 20_000) if quick else (3_000_000, 100_000_000)
    result = Result("budget")
    for method in METHODS:
        tell(f"budget, {method}, {n:,} samples")
        task = {"kind": "start", "n": n, "method": method}
        result.rows.append(child(__spec__.name, task))
    tell(f"budget, exact at {largest:,} samples")
    result.rows.append(child(__spec__.name, {"kind": "exact", "n": largest}))
    tell("saving a state")
    result.rows.append(child(__spec__.name, {"kind": "save", "n": n * 5}))
    result.bars = _bars(result.rows)
    return result


def _bars(rows: list[dict[str, Any]]) -> list[Bar]:
    dearest = max((r for r in rows if r["kind"] == "start"), key=lambda r: float(r["ratio"]))
    exact, save = (next(r for r in rows if r["kind"] == kind) for kind in ("exact", "save"))
    n = f"{dearest['n']:,}"
    return [
        Bar(f"epoch start with a budget at {n}, {dearest['method']}", dearest["ratio"], 2, "x"),
        Bar(f"off the budget at {exact['n']:,}", exact["off"], 0, "samples"),
        Bar(f"state of {save['n']:,} in mid-epoch", save["bytes"], 7, "bytes/sample"),
        Bar("saving it, beside numpy.save", save["ratio"], 2, "x"),
        Bar("saving it to the disk, beside numpy.save and fsync", save["ratio_synced"], 2, "x"),
    ]


def _start(n: int, method: str) -> dict[str, Any]:
    from seta import Pruner

    losses = gamma_losses(n)
    raw: defaultdict[str, list[float]] = defaultdict(list)
    for epoch in range(REPEATS):
        for name, budget in (("free", None), ("budget", BUDGET)):
            pruner = Pruner(
                n, method, epochs=8, losses=losses, budget=budget, seed=epoch, threads=THREADS
            )
            raw[name].append(seconds(partial(pruner.begin_epoch, epoch)))
    return {
        "kind": "start",
        "n": n,
        "method": method,
        "seconds": median(raw["budget"]),
        "ratio": median_ratio(raw["budget"], raw["free"]),
        "raw": raw,
    }


def _exact(n: int) -> dict[str, Any]:
    """How many samples three epochs lie off the budget."""
    from seta import Pruner, SeTa

    pruner = Pruner(n, SeTa(), epochs=3, losses=gamma_losses(n), budget=BUDGET, threads=THREADS)
    kept = []
    for epoch in range(3):
        kept.append(len(pruner.begin_epoch(epoch)))
        pruner.end_epoch()
    return {"kind": "exact", "n": n, "kept": kept, "off": abs(sum(kept) - int(BUDGET * n * 3))}


def _save(n: int) -> dict[str, Any]:
    """Saves a state in mid-epoch, in turns with `numpy.save` of as many bytes."""
    import seta

    pruner = seta.Pruner(n, "SeTa", epochs=8, losses=gamma_losses(n), threads=THREADS)
    pruner.record(pruner.begin_epoch(1)[: n // 2], np.ones(n // 2, np.float32))
    state = pruner.state_dict()
    raw: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seta.save(state, folder / "state")
        size = (folder / "state").stat().st_size
        data = np.ones(size, np.uint8)
        for turn in range(REPEATS):
            path = folder / f"state-{turn}"
            raw["save"].append(seconds(partial(seta.save, state, path, sync=False)))
            path.unlink()
            raw["save_synced"].append(seconds(partial(seta.save, state, folder / "state")))
            raw["numpy"].append(seconds(partial(np.save, folder / "plain.npy", data)))
            raw["synced"].append(seconds(partial(_numpy_to_the_disk, folder / "synced.npy", data)))
    return {
        "kind": "save",
        "n": n,
        "bytes": size / n,
        "seconds": median(raw["save"]),
        "ratio": median_ratio(raw["save"], raw["numpy"]),
        "ratio_synced": median_ratio(raw["save_synced"], raw["synced"]),
        "raw": raw,
    }


def _numpy_to_the_disk(path: Path, data: npt.NDArray[np.uint8]) -> None:
    with path.open("wb") as file:
        np.save(file, data)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        "start": _start,
        "exact": _exact,
        "save": _save,
    }
    print(json.dumps(parts[asked.pop("kind")](**asked)))
