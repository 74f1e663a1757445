"""A whole epoch start (histogram, groups, draw): its time and its memory; and the order.

SeTa with its defaults, gamma losses, two threads. Odd and even epochs have different windows, so
both are timed and the dearer one counts. Up to 3 million samples the published way runs on the same
data, in turns with ours; the yardstick everywhere is a copy of the losses into a warm array.

Memory: `table` is the bytes per sample of the arrays held, loss and time left out, as the state
dict has them. `held`, `more_at_peak` and `process_gib` are what is resident, with the fixed parts
(threads' heaps, the histogram), so that they are large per sample where samples are few.

Order: the samples of an epoch are made when they are read. A loader reads them in blocks, and so
does the measurement, on one thread, beside drawing as many random numbers of 64 bits.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import THREADS, Bar, Result, child, median_ratio, seconds

REPEATS = 5
COPIES = 3  # before each epoch start, and after it
STATUS = Path("/proc/self/status")


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures all sizes, each in a child of its own."""
    beside = [2_000] if quick else [50_000, 1_000_000, 3_000_000]
    alone = [20_000] if quick else [15_000_000, 100_000_000]
    result = Result("epoch_start")
    for n in beside + alone:
        published = 0 if n in alone else 3
        kinds = (
            ("time", {"n": n, "published": published}),
            ("memory", {"n": n}),
            ("order", {"n": n}),
        )
        for kind, task in kinds:
            tell(f"epoch start, {kind}, {n:,} samples")
            result.rows.append(child(__spec__.name, {"kind": kind, **task}))
    result.bars = _bars(result.rows, beside[-1], alone[0], alone[-1])
    return result


def _bars(rows: list[dict[str, Any]], beside: int, alone: int, largest: int) -> list[Bar]:
    """The bars on speed at `beside` and `alone`, and on memory at `largest`."""
    row = {(r["kind"], r["n"]): r for r in rows}
    memory = row["memory", largest]
    faster = row["time", beside]["times_faster"]
    copies = row["time", alone]["copies"]
    return [
        Bar(f"epoch start at {beside:,}, times faster than published", faster, 2000, "x", True),
        Bar(f"epoch start at {alone:,}, in copies of the losses", copies, 15, "copies"),
        Bar(f"order at {largest:,}, a sample", row["order", largest]["nanoseconds"], 60, "ns"),
        Bar(f"loss table at {largest:,}", memory["table"], 6, "bytes/sample"),
        Bar(f"more at the peak at {largest:,}", memory["more_at_peak"], 1, "bytes/sample"),
        Bar(f"whole process at {largest:,}", memory["process_gib"], 2, "GiB"),
    ]


def gamma_losses(n: int) -> npt.NDArray[np.float32]:
    """Gamma losses float32 (n,), made in place: no array beside the one returned."""
    losses = np.empty(n, np.float32)
    np.random.default_rng(0).standard_gamma(2.0, dtype=np.float32, out=losses)
    return losses


def _time(n: int, published: int) -> dict[str, Any]:
    """Times `REPEATS` starts of each kind of epoch, and `published` ones the published way."""
    from seta import Pruner, SeTa

    losses = gamma_losses(n)
    pruner = Pruner(n, SeTa(), epochs=100, losses=losses, threads=THREADS)
    pruner.begin_epoch(0)
    warm = losses.copy()
    copy = partial(np.copyto, warm, losses)
    raw: defaultdict[str, list[float]] = defaultdict(list)
    for epoch in range(1, 2 * REPEATS + 1):
        raw["end"].append(_train_a_little_and_end(pruner, epoch))
        copies = [seconds(copy) for _ in range(COPIES)]
        start = seconds(partial(pruner.begin_epoch, epoch))
        copies += [seconds(copy) for _ in range(COPIES)]
        raw["odd" if epoch % 2 else "even"].append(start)
        raw["copy"].append(median(copies))
        if epoch <= published:
            tensors, arrays = _time_published(losses)
            raw["published"].append(tensors)
            raw["published_numpy"].append(arrays)
    return _times(n, raw)


def _train_a_little_and_end(pruner: Any, seed: int) -> float:
    """Records a few new losses, so that nothing can be reused; times the epoch's end."""
    indices = pruner.selection[:128]
    pruner.record(indices, np.random.default_rng(seed).standard_gamma(2.0, len(indices)))
    return seconds(pruner.end_epoch)


def _time_published(losses: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Seconds of an even epoch the published way, with its tensors and on numpy arrays."""
    import torch

    from benchmarks import published

    rng = np.random.default_rng(0)
    tensor = torch.from_numpy(losses)
    return (
        seconds(partial(published.epoch_start, tensor, 2, rng)),
        seconds(partial(published.numpy_epoch_start, losses, 2, rng)),
    )


def _times(n: int, raw: dict[str, list[float]]) -> dict[str, Any]:
    """The row of one size: medians, ratios, raw repeats in seconds."""
    dearer = max(("odd", "even"), key=lambda name: median(raw[name]))
    copies = raw["copy"][0::2] if dearer == "odd" else raw["copy"][1::2]
    row: dict[str, Any] = {
        "kind": "time",
        "n": n,
        "seconds": median(raw[dearer]),
        "copies": median_ratio(raw[dearer], copies),
        "copies_at_best": min(raw[dearer]) / min(copies),
        "copy_seconds": median(copies),
        "end_seconds": median(raw["end"]),
    }
    if "published" in raw:
        row["published_seconds"] = median(raw["published"])
        row["published_numpy_seconds"] = median(raw["published_numpy"])
        row["times_faster"] = row["published_seconds"] / row["seconds"]
        row["times_faster_than_numpy"] = row["published_numpy_seconds"] / row["seconds"]
    return row | {"raw": raw}


def _memory(n: int) -> dict[str, Any]:
    """Bytes per sample held, and more than the 6 allowed at the peak of four epoch starts."""
    from seta import Pruner, SeTa

    Pruner(1000, SeTa(), epochs=4, threads=THREADS).begin_epoch()  # what is loaded late
    before = _resident()
    losses = gamma_losses(n)
    pruner = Pruner(n, SeTa(), epochs=100, losses=losses, threads=THREADS)
    del losses
    _forget_peak()
    for epoch in range(4):
        pruner.begin_epoch(epoch)
        _train_a_little_and_end(pruner, epoch)
    # Taken after the epochs: memory counts once it is touched.
    row = {
        "kind": "memory",
        "n": n,
        "held": (_resident() - before) / n,
        "more_at_peak": (_peak() - before) / n - 6,
        "process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 2**30,
    }
    table = pruner.state_dict(copy=False)["table"].values()
    return row | {"table": sum(v.nbytes for v in table if isinstance(v, np.ndarray)) / n}


def _order(n: int) -> dict[str, Any]:
    """Nanoseconds for each sample of an epoch that is read in blocks, on one thread."""
    from seta import Pruner, SeTa

    pruner = Pruner(n, SeTa(), epochs=100, losses=gamma_losses(n), threads=THREADS)
    selection = pruner.begin_epoch(1)
    block = 1 << 14
    starts = range(0, min(len(selection), 512 * block), block)
    bits = np.random.PCG64DXSM(0)
    raw: defaultdict[str, list[float]] = defaultdict(list)
    for start in starts:
        count = len(selection[start : start + block])
        part = partial(selection.__getitem__, slice(start, start + block))
        raw["order"].append(seconds(part) / count * 1e9)
        raw["random"].append(seconds(partial(bits.random_raw, count)) / count * 1e9)
    return {
        "kind": "order",
        "n": n,
        "nanoseconds": median(raw["order"]),
        "beside_random": median_ratio(raw["order"], raw["random"]),
    }


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _resident() -> int:
    """Bytes resident now (off Linux: at most so far)."""
    return _status("VmRSS:")


def _peak() -> int:
    """Bytes resident at most since `_forget_peak` (off Linux: since the start)."""
    return _status("VmHWM:")


def _status(name: str) -> int:
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    """Sets the peak to what is resident now. Where it cannot, the peak stays an upper bound."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    measure = {"time": _time, "memory": _memory, "order": _order}[asked.pop("kind")]
    print(json.dumps(measure(**asked)))
