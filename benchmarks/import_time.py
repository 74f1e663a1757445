"""How much longer than numpy `import seta` takes, and that it leaves torch alone.

Two statements are timed beside `import numpy`, each in fresh processes, in turns: `import seta`,
and `from seta import Pruner, SeTa`, which loads what a lazy package puts off. The dearer counts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from statistics import median

from benchmarks.measure import Bar, Result, environment

STATEMENTS = {
    "numpy": "import numpy",
    "seta": "import seta",
    "pruner": "from seta import Pruner, SeTa",
}
PROGRAM = """
import sys, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, int("torch" in sys.modules))
"""


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Times the imports in fresh processes and compares the medians of paired differences."""
    repeats = 2 if quick else 15
    tell(f"imports, {repeats} fresh processes each")
    raw: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    torch_loaded = 0
    for repeat in range(repeats + 1):
        for name, statement in STATEMENTS.items():
            elapsed, loaded = _import(statement)
            torch_loaded += loaded
            if repeat:  # the first round writes the bytecode and warms the disk
                raw[name].append(elapsed)
    more = {
        name: median(a - b for a, b in zip(raw[name], raw["numpy"], strict=True))
        for name in ("seta", "pruner")
    }
    row = {"numpy_seconds": median(raw["numpy"]), "more_seconds": more, "raw": raw}
    bars = [
        Bar("import seta, more than numpy", max(more.values()), 0.2, "s"),
        Bar("import seta, times torch was loaded", torch_loaded, 0, ""),
    ]
    return Result("import_time", [row], bars)


def _import(statement: str) -> tuple[float, int]:
    """Seconds that `statement` takes in a fresh process, and whether torch was loaded by it."""
    program = PROGRAM.format(statement=statement)
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    elapsed, loaded = answer.stdout.split()
    return float(elapsed), int(loaded)
