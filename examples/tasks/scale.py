"""The scale of the paper: a whole epoch start over millions of samples, and some hundred steps.

    python examples/tasks/scale.py scene_text --samples 15_000_000
    python examples/tasks/scale.py captioning --samples 3_000_000

About a minute each. SeTa has a loss of every sample, as after a first epoch: they are drawn from a
gamma distribution, in place of the hours that it would take to train them all. It chooses the
samples of the next epoch, and the program's own net trains on the first batches of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import seta
from seta.comparison.trial import environment

PROGRAMS = ("scene_text", "captioning")
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
_MIB = 2**20


def measure(name: str, samples: int, steps: int, seed: int = 0) -> dict[str, float]:
    """Makes the epoch start and the steps.

    Args:
        name: Of the program, one of `PROGRAMS`.
        samples: To choose from.
        steps: To train, >= 1.
        seed: Of everything.

    Returns:
        What it took, by name, as a person reads it.
    """
    program = importlib.import_module(name)
    settings = replace(program.DEFAULTS, samples=samples, seed=seed)
    data = program.train_set(settings)
    torch.manual_seed(seed)
    net = program.make_net(data)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    known = np.random.default_rng(seed).standard_gamma(2.0, samples, np.float32)
    before, began = _peak(), time.perf_counter()
    loader = seta.PrunedDataLoader(
        data,
        "SeTa",
        epochs=10,
        budget=settings.budget,
        seed=seed,
        batch_size=settings.batch_size,
        num_workers=settings.workers,
        losses=known,
    )
    made = time.perf_counter()
    loader.set_epoch(0)
    chosen = time.perf_counter()
    peak = _peak()
    means = []
    for batch in track(islice(loader, steps), f"{name}: steps", steps, transient=True):
        loss = loader.update(program.losses(net, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means.append(loss.item())
    trained = time.perf_counter()
    fifth = max(1, steps // 5)
    return {
        "Samples": samples,
        "Making the loader, s": made - began,
        "Epoch start, s": chosen - made,
        "Samples chosen": loader.pruner.kept,
        "Memory for it at the peak, MiB": (peak - before) / _MIB,
        "Memory of the process at the peak, MiB": _peak() / _MIB,
        "Steps": steps,
        "Samples per step": settings.batch_size,
        "Training them, s": trained - chosen,
        "Loss in the first fifth": sum(means[:fifth]) / fifth,
        "Loss in the last fifth": sum(means[-fifth:]) / fifth,
    }


def _peak() -> int:
    """The most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("--samples", type=int, default=3_000_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args(arguments)
    figures = measure(given.name, given.samples, given.steps)
    table = Table(title=f"{given.name} at scale", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:,.2f}")
    console = Console()
    console.print(table)
    path = given.out / f"{given.name}-scale.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python examples/tasks/scale.py", *(arguments or sys.argv[1:])])
    made = {"command": command, **environment(), "figures": figures}
    path.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    console.print(f"Figures, and all that made them: {path}")


if __name__ == "__main__":
    main()
