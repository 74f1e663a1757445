"""A run of a billion samples on one machine: time and memory of each step, beside 100 million.

SeTa with its defaults, one process, two threads. A child goes through the steps of a run: an
opening epoch, which knows no losses; its recording, the whole selection (90 % of the samples) in
batches of 65,536 through `Pruner.record`; windowed epochs, two of each window, of which a few
losses are recorded; a checkpoint in the middle of the last one. Another child reads the file, for
comparison, and then resumes from it: it maps the file, loads it into a new pruner, and reads the
first samples that are left to train. The losses, from a gamma distribution, are made batch by
batch, outside the times, so that nothing but the table holds them.

`copy` is a copy of the losses into fresh memory, which an epoch start has to touch as well: on a
virtual machine that can cost more than all the rest, and more per byte the more it is.

Recording is left out of what has to cost the same at either size: a sample's loss and its epoch are
two places in memory, anywhere in 6 GB, and the larger the table, the more of them miss the caches
and the tables of pages. One place for both would take 8 bytes instead of 6, and a histogram that
reads every other word.

Memory is that of the whole process, at most during the step; that of the copy does not count. The
checkpoint is flushed to the disk of the temporary folder, and read while the system may still have
it in its cache.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.epoch_start import _forget_peak, _peak, _train_a_little_and_end
from benchmarks.measure import THREADS, Bar, Result, child, seconds

WINDOWED = 4  # epochs; odd and even ones have different windows
BATCH = 65_536
SAME_COST = ("epoch start", "save", "resume")  # per sample, at either size


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures both sizes, each in two children; a checkpoint lies on the disk meanwhile."""
    small, large = (2_000, 20_000) if quick else (100_000_000, 1_000_000_000)
    result = Result("scale")
    changed = 0
    for n in (small, large):
        with tempfile.TemporaryDirectory() as folder:
            _check_space(folder, 7 * n)
            task = {"n": n, "path": str(Path(folder) / "state")}
            tell(f"scale, {n:,} samples")
            saved = child(__spec__.name, {"kind": "save", **task})
            tell(f"scale, {n:,} samples, resumed")
            loaded = child(__spec__.name, {"kind": "load", **task})
        result.rows += _beside_the_plan(n, saved["rows"]) + loaded["rows"]
        changed += saved["selection"] != loaded["selection"]
    result.bars = [
        *_bars(result.rows, small, large),
        Bar("selections changed by a checkpoint", changed, 0, ""),
    ]
    return result


def _beside_the_plan(n: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to the epoch start what `benchmarks.scale_table` puts beside the plan."""
    starts = [row for row in rows if row["step"].endswith("start")]
    starts[-1] |= {
        "run": {"samples": n, "epochs": 100, "budget": None},
        "peak": max(row["gib"] for row in starts) * 2**30,
        "choose_seconds": starts[-1]["seconds"],
    }
    return rows


def _check_space(folder: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RuntimeError(
            f"the checkpoint needs {needed / 1e9:.1f} GB in the temporary folder, which has "
            f"{free / 1e9:.1f} GB free: make room, or set TMPDIR to another one"
        )


def _bars(rows: list[dict[str, Any]], small: int, large: int) -> list[Bar]:
    row = {(r["step"], r["n"]): r for r in rows}
    ours = (r for r in rows if r["n"] == large and r["step"] != "copy")
    dearest = max(ours, key=lambda r: float(r["gib"]))
    grown = {
        step: row[step, large]["ns_per_sample"] / row[step, small]["ns_per_sample"]
        for step in SAME_COST
    }
    return [
        Bar(f"epoch start at {large:,}", row["epoch start", large]["seconds"], 6, "s"),
        Bar(f"whole process at {large:,}, {dearest['step']}", dearest["gib"], 9, "GiB"),
        Bar(f"resume at {small:,}, in readings of the file", _readings(row, small), 2, "x"),
        *(
            Bar(f"{step}, per sample, {large:,} beside {small:,}", ratio, 1.25, "x")
            for step, ratio in grown.items()
        ),
    ]


def _readings(row: dict[Any, dict[str, Any]], n: int) -> float:
    return float(row["resume", n]["seconds"] / row["reading the file", n]["seconds"])


class _Steps:
    """What the steps of a run took, each step once or once per epoch."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._raw: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def take(self, step: str, call: Callable[[], object]) -> None:
        """Takes a step and its time."""
        self.take_timed(step, partial(seconds, call))

    def take_timed(self, step: str, timed: Callable[[], float]) -> None:
        """Takes a step that tells its seconds itself."""
        _forget_peak()
        elapsed = timed()
        self._raw[step].append((elapsed, _peak() / 2**30))

    def rows(self) -> list[dict[str, Any]]:
        """One row per step: the time of the dearer kind of epoch, the most memory."""
        rows = []
        for step, raw in self._raw.items():
            times = [elapsed for elapsed, _ in raw]
            dearer = max(median(times[kind::2]) for kind in range(min(2, len(times))))
            rows.append(
                {
                    "n": self._n,
                    "step": step,
                    "seconds": dearer,
                    "ns_per_sample": dearer / self._n * 1e9,
                    "gib": max(gib for _, gib in raw),
                    "raw": raw,
                }
            )
        return rows


def _save(n: int, path: str) -> dict[str, Any]:
    """A run up to its checkpoint."""
    import seta

    seta.Pruner(1000, "SeTa", epochs=4, threads=THREADS).begin_epoch()  # what is loaded late
    steps = _Steps(n)
    pruner = seta.Pruner(n, "SeTa", epochs=100, threads=THREADS)
    steps.take("opening start", partial(pruner.begin_epoch, 0))
    steps.take_timed("record", partial(_record, pruner))
    steps.take("end", pruner.end_epoch)
    for epoch in range(1, WINDOWED + 1):
        steps.take("epoch start", partial(pruner.begin_epoch, epoch))
        if epoch < WINDOWED:
            steps.take_timed("end", partial(_train_a_little_and_end, pruner, epoch))
            steps.take("copy", pruner.losses.copy)
    pruner.record(pruner.selection[:128], np.ones(128, np.float32))
    steps.take("save", lambda: seta.save(pruner.state_dict(copy=False), path))
    rows = steps.rows()
    rows[-1]["bytes_per_sample"] = Path(path).stat().st_size / n
    return {"rows": rows, "selection": _digest(pruner)}


def _digest(pruner: Any) -> int:
    """A digest of the open epoch's first samples, and its last."""
    selection = pruner.begin_epoch()
    return zlib.crc32(selection[:BATCH]) ^ zlib.crc32(selection[-BATCH:])


def _record(pruner: Any) -> float:
    """Records the whole selection; returns the seconds of that alone."""
    rng = np.random.default_rng(0)
    elapsed = 0.0
    for batch in pruner.selection.blocks(BATCH):
        losses = rng.standard_gamma(2.0, len(batch), dtype=np.float32)
        elapsed += seconds(partial(pruner.record, batch, losses))
    return elapsed


def _load(n: int, path: str) -> dict[str, Any]:
    """Goes on from the checkpoint."""
    import seta

    steps = _Steps(n)
    steps.take("reading the file", partial(_read, path))
    pruner = seta.Pruner(n, "SeTa", epochs=100, threads=THREADS)

    def resume() -> None:
        pruner.load_state_dict(seta.load(path, mmap=True))
        pruner.share()[:BATCH]

    steps.take("resume", resume)
    return {"rows": steps.rows(), "selection": _digest(pruner)}


def _read(path: str) -> None:
    """Reads a file into memory that is used again, block by block."""
    block = memoryview(bytearray(1 << 24))
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block):
            pass


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    part = {"save": _save, "load": _load}[asked.pop("kind")]
    print(json.dumps(part(**asked)))
