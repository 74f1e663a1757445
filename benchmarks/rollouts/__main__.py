"""`python -m benchmarks.rollouts [report]`: the runs, a line each, and the page made of them.

Runs are made seed by seed and go on where they were stopped: what has a line is not run again. A
run takes half a minute of one core, and what its seed begins with another half. `report` writes
`docs/rollouts.md`.

    python -m benchmarks.rollouts --seeds 5
    python -m benchmarks.rollouts report
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.measure import machine
from benchmarks.rollouts.methods import METHODS
from benchmarks.rollouts.report import page
from benchmarks.rollouts.run import Sizes, run
from benchmarks.rollouts.task import TASKS

ROOT = Path(__file__).resolve().parents[2]
LINES = ROOT / "benchmarks" / "results" / "rollouts.jsonl"
PAGE = ROOT / "docs" / "rollouts.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the runs that are missing, or the page, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["run", "report"], default="run")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less 1")
    parser.add_argument("--lines", type=Path, default=LINES, help="where the lines are")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page goes")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which say nothing")
    asked = parser.parse_args(arguments)
    every = QUICK if asked.quick else SIZES
    lines = read(asked.lines, every)
    if asked.what == "report":
        asked.page.write_text(page(lines), encoding="utf-8")
        return 0
    torch.set_num_threads(1)
    done = {(line["sizes"]["task"], line["method"], line["seed"]) for line in lines}
    for seed, sizes, method in product(range(asked.seeds), every, METHODS):
        if (sizes.task, method, seed) not in done:
            line = {**run(method, seed, sizes), "made": made()}
            with asked.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return 0


SIZES = tuple(map(Sizes, TASKS))
QUICK = tuple(
    Sizes(
        task,
        prompts=64,
        held_out=32,
        supervised=3,
        passes=4,
        batch=8,
        rollouts=4,
        rate=1e-3,
        every=2,
    )
    for task in ("few", "graded")
)


def made() -> str:
    """Returns what a run was made with."""
    python = platform.python_version()
    packages = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return (
        f"{machine()['processor']}, one thread, others busy beside it; Python {python}, {packages}"
    )


def read(path: Path, sizes: Sequence[Sizes]) -> list[dict[str, Any]]:
    """Returns the lines of runs of these sizes; a line that was cut off is left out."""
    lines, wanted = [], [asdict(one) for one in sizes]
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["sizes"] in wanted:
            lines.append(line)
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
