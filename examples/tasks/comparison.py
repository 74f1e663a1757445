"""What the programs beside this one share: their options, the four methods, the table at the end.

A program makes its data and its net and has an ordinary training loop. `compare` runs the loop once
per method, each time from the same first weights, measures the net, and prints the table. It also
leaves the figures in a file, with all that made them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

import seta
from seta import policies
from seta.engine.curves.policy import is_stratified

METHODS = ("Full", "Full at equal cost", "InfoBatch", "SeTa")
OTHERS = tuple(
    name
    for name in policies.REGISTRY
    if name not in METHODS and not is_stratified(policies.get(name))
)  # the samples of these tasks have no classes


@dataclass(frozen=True)
class Settings:
    """How a program is run.

    Attributes:
        samples: To train on.
        epochs: Of full training.
        batch_size: Samples per batch.
        test_samples: To measure on.
        budget: Share of full training's visits that all methods but Full train.
        seed: Of the data, the first weights and the selections.
        workers: Processes that make the samples.
        data: A folder of the user's own; None: samples are made.
        out: The folder for predictions and figures.
    """

    samples: int
    epochs: int
    batch_size: int
    test_samples: int = 1000
    budget: float = 0.6
    seed: int = 0
    workers: int = 1
    data: Path | None = None
    out: Path = Path("runs")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        method: One of `METHODS`, or of `OTHERS`.
        policy: The policy that chooses the samples, as it is made for the budget.
        epochs: How many there are.
        budget: Share of the samples that are trained, one for all epochs or one for each.
    """

    method: str
    policy: seta.Policy
    epochs: int
    budget: float | list[float]


Watch = Callable[[seta.PrunedDataLoader], Iterable[Any]]
"""Gives out the batches of a loader, and shows how far the run is."""

Train = Callable[[Settings, Run, Watch], tuple[nn.Module, seta.PrunedDataLoader]]
Evaluate = Callable[[Settings, nn.Module], dict[str, float]]
Show = Callable[[Settings, nn.Module], Path]


@dataclass(frozen=True)
class Row:
    """What one run came to.

    Attributes:
        method: That of the run.
        metrics: By name, as `evaluate` measured them.
        visits: Samples trained, counted each time.
        full_visits: Those of full training.
        seconds: Wall time of training, loading included, measuring left out.
        wrong: Share of the visits that were to samples with wrong labels, in [0, 1]; None: it is
            not known which are wrong.
    """

    method: str
    metrics: dict[str, float]
    visits: int
    full_visits: int
    seconds: float
    wrong: float | None


def plan(method: str, settings: Settings) -> Run:
    """Returns the run of a method.

    Full at equal cost trains on everything, for as many epochs as the budget pays for; of the last
    one, if need be, a part, if that is a batch.
    """
    if method == "Full":
        return Run(method, seta.Full(), settings.epochs, 1.0)
    if method == "Full at equal cost":
        paid = round(settings.budget * settings.epochs, 9)
        rest = paid - int(paid)
        part = [rest] if rest * settings.samples >= settings.batch_size else []
        shares = [1.0] * int(paid) + part
        return Run(method, seta.Full(), len(shares), shares)
    policy = policies.get(method, budget=settings.budget)
    return Run(method, policy, settings.epochs, settings.budget)


def compare(
    title: str,
    settings: Settings,
    methods: Sequence[str],
    *,
    train: Train,
    evaluate: Evaluate,
    show: Show,
    wrong: NDArray[np.bool_] | None,
) -> list[Row]:
    """Trains with each method, and prints how they compare.

    Args:
        title: Of the table.
        settings: Of all runs.
        methods: Of `METHODS` and `OTHERS`, in the order in which they are run.
        train: Trains a net; returns it, and its loader (made with `count_kept=True`).
        evaluate: Measures a net on samples that no method trains on; the first figure is the one
            that counts.
        show: Writes predictions of the last net to a file, and returns its path.
        wrong: Bool (N,), which samples have wrong labels; None: nobody knows.
    """
    console = Console()
    _warm_up(settings, train)
    rows: list[Row] = []
    for method in methods:
        run = plan(method, settings)
        with _watching(console, run) as watch:
            began = time.perf_counter()
            net, loader = train(settings, run, watch)
            seconds = time.perf_counter() - began
        counts = loader.pruner.kept_counts.astype(np.int64)
        visits = int(counts.sum())
        share = None if wrong is None else float(counts[wrong].sum() / visits)
        metrics = evaluate(settings, net)
        full = loader.pruner.sizes.most * settings.epochs
        rows.append(Row(method, metrics, visits, full, seconds, share))
        path = write(title, settings, rows, wrong)  # after each: what was measured is not lost
        first, *_ = metrics.items()
        console.print(f"{method}: {first[0]} {first[1]:.3g}, {visits:,} visits, {seconds:.0f} s")
    console.print(table(title, rows, None if wrong is None else float(wrong.mean())))
    console.print(f"Predictions of the last net: {show(settings, net)}")
    console.print(f"Figures, and all that made them: {path}")
    return rows


def table(title: str, rows: Sequence[Row], wrong: float | None) -> Table:
    """Returns the runs as a table.

    Args:
        title: Of the table.
        rows: The runs.
        wrong: Share of the samples with wrong labels; None: nobody knows.
    """
    known = "" if wrong is None else f"; {wrong:.1%} of the samples have wrong labels"
    made = Table(title=title + known, title_justify="left", title_style="bold", box=None)
    made.add_column("Method", no_wrap=True)
    for name in (*rows[0].metrics, "Visits", "Saved %", "Seconds", "Wrong %"):
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(
            row.method,
            *(f"{value:.3g}" if value < 10 else f"{value:.1f}" for value in row.metrics.values()),
            f"{row.visits:,}",
            f"{100 * (1 - row.visits / row.full_visits):.1f}",
            f"{row.seconds:.1f}",
            "-" if row.wrong is None else f"{100 * row.wrong:.1f}",
        )
    return made


def write(
    title: str, settings: Settings, rows: Sequence[Row], wrong: NDArray[np.bool_] | None
) -> Path:
    """Writes the figures as JSON, and returns the path of the file."""
    path = settings.out / f"{Path(sys.argv[0]).stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "title": title,
        **environment(),
        "settings": {**asdict(settings), "data": settings.data and settings.data.name, "out": None},
        "wrong": None if wrong is None else float(wrong.mean()),
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def environment() -> dict[str, Any]:
    """Returns the command, the machine and the versions that figures were made with."""
    script = f"examples/tasks/{Path(sys.argv[0]).name}"
    return {
        "command": " ".join(["python", script, *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "seta": seta.__version__,
        },
    }


def _warm_up(settings: Settings, train: Train) -> None:
    """Trains for two batches, so that the first method does not pay for what happens once."""
    if settings.data is None:
        few = min(settings.samples, 2 * settings.batch_size)
        train(replace(settings, samples=few, epochs=1), Run("Full", seta.Full(), 1, 1.0), iter)


@contextmanager
def _watching(console: Console, run: Run) -> Iterator[Watch]:
    """Gives a watch that draws a bar for one run."""
    name, epoch = TextColumn("{task.description}"), TextColumn("{task.fields[epoch]}")
    columns = (name, BarColumn(), epoch, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(run.method, total=None, epoch="")

        def watch(loader: seta.PrunedDataLoader) -> Iterator[Any]:
            for batch in loader:
                epoch = f"epoch {loader.epoch + 1} of {run.epochs}"
                progress.update(bar, total=loader.total_batches, epoch=epoch)
                yield batch
                progress.advance(bar)

        yield watch


def options(
    description: str, defaults: Settings, arguments: Sequence[str] | None = None
) -> tuple[Settings, list[str]]:
    """Reads the command line.

    Args:
        description: What `--help` opens with: the docstring of the program.
        defaults: Of the program.
        arguments: In place of those of the command line.

    Returns:
        The settings, and the methods to run.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--method",
        action="append",
        choices=(*METHODS, *OTHERS),
        help="to run; may be repeated (the first four)",
    )
    add("--budget", type=_share, metavar="SHARE", help=f"of the visits ({defaults.budget})")
    for name, text in (
        ("epochs", "of full training"),
        ("samples", "to train on"),
        ("test-samples", "to measure on"),
        ("batch-size", "samples per batch"),
    ):
        value = getattr(defaults, name.replace("-", "_"))
        add(f"--{name}", type=_at_least(1), metavar="N", help=f"{text} ({value:,})")
    add("--workers", type=_at_least(0), metavar="N", help=f"that load ({defaults.workers})")
    add("--seed", type=_at_least(0), metavar="N", help=f"of everything ({defaults.seed})")
    add("--data", type=_folder, metavar="FOLDER", help="train on your own samples")
    add("--out", type=Path, metavar="FOLDER", help=f"for predictions, figures ({defaults.out})")
    given = vars(parser.parse_args(arguments))
    methods = given.pop("method") or list(METHODS)
    return replace(defaults, **{k: v for k, v in given.items() if v is not None}), methods


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: must be a share of the visits, in (0, 1]")


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        with suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least} on")

    return whole


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return Path(text)
