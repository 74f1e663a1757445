"""What the benchmarks share: timing, children of their own, bars, and the file that is written.

Every size runs in a fresh child process, so that no allocation, cache or import of one measurement
serves another. A child is a benchmark module called with one JSON argument; it answers in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

THREADS = 2
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Bar:
    """A figure and the limit that it has to stay on the right side of."""

    what: str
    figure: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure keeps the limit."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def as_row(self) -> dict[str, Any]:
        """The bar as plain data, for the JSON file."""
        sense = "at least" if self.at_least else "at most"
        return {
            "what": self.what,
            "figure": self.figure,
            "sense": sense,
            "limit": self.limit,
            "unit": self.unit,
            "met": self.met,
        }


@dataclass
class Result:
    """What one benchmark found: rows of figures with every raw repeat, and the bars."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def write(self, folder: Path, command: str) -> Path:
        """Writes `<folder>/<name>.json`: figures, bars, command, date, machine and versions."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "name": self.name,
            "command": command,
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": versions(),
            "source": source(),
            "threads": THREADS,
            "bars": [bar.as_row() for bar in self.bars],
            "rows": self.rows,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory, without any name of the host."""
    info: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    if hasattr(os, "getloadavg"):  # what else the machine was busy with, our own children included
        info["load"] = round(os.getloadavg()[0], 1)
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists() and meminfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            info["processor"] = names[0].partition(":")[2].strip()
        kilobytes = int(meminfo.read_text().split()[1])
        info["memory_gib"] = round(kilobytes / 2**20, 1)
    return info


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that take part."""
    found = {"python": platform.python_version()}
    for name in ("seta", "numpy", "scikit-learn", "torch"):
        found[name] = metadata.version(name)
    return found


def source() -> str:
    """A digest of the code of `seta`: figures belong to the code that they were taken from."""
    import seta

    digest = hashlib.sha256()
    for path in sorted(Path(seta.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of paired measurements."""
    return median(a / b for a, b in zip(above, below, strict=True))


def child(module: str, task: dict[str, Any]) -> Any:
    """Runs `python -m module <task>` with `THREADS` threads and returns what it answers.

    Raises:
        RuntimeError: if the child fails; the message carries the end of what it wrote.
    """
    finished = subprocess.run(
        [sys.executable, "-m", module, json.dumps(task)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{module} {task} failed:\n{finished.stderr[-4000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """The environment of a child: the thread count for every library, bytecode kept."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {name: str(THREADS) for name in threads}
