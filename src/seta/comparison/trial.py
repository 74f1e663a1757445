"""One run of a comparison: a loader is made, the user's function trains with it, a line is written.

Between `compare`, which decides which runs are made, and the user's own training. What can go wrong
in there is told in words: no figure, not all epochs. Random states are seeded before and restored
after.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch

import seta
from seta.comparison.contenders import FULL, Contender
from seta.comparison.group import Group
from seta.comparison.lines import Line
from seta.comparison.regime import Observer
from seta.comparison.runner import Tell
from seta.comparison.table import COLUMNS, columns_of
from seta.engine.curves.policy import takes_strata
from seta.engine.rows import Row
from seta.engine.state.describe import describe
from seta.engine.steps import Steps
from seta.report.units import text_of

Figures = float | Mapping[str, float]
Run = Callable[[Any, int], Figures]
"""The user's training: gets a loader and a seed, returns what it measured."""

MOST = 1e20
"""A figure beyond has diverged: squares of such are not finite."""

ANSWERED = 0.99
"""A run that trains less of what it was given has failed; a batch may be skipped now and then."""

KEPT = ("epoch", "kept", "trained", "saved", "mean_loss", "longest_left_out", "never_trained")
"""What a line keeps of the row of an epoch."""


@dataclass(frozen=True)
class Job:
    """One run that is to be made.

    Attributes:
        contender: How it chooses.
        seed: Of the selections, and given to the user's function.
        epochs: That it has itself.
        visits: Samples that it trains.
    """

    contender: Contender
    seed: int
    epochs: int
    visits: int

    @property
    def name(self) -> str:
        """What a person reads."""
        return f"{self.contender.name}, seed {self.seed}"

    @property
    def at(self) -> tuple[str, float | None, int]:
        """Which line is its."""
        return (self.contender.method, self.contender.budget, self.seed)


@dataclass(frozen=True)
class Training:
    """What all runs of a comparison have in common; called, it makes one of them.

    Attributes:
        run: The user's function.
        dataset: What is trained on.
        epochs: Of full training.
        sizes: Samples, batch size and ranks, with `drop_last`.
        loader: Makes what `run` is given; called as `PrunedDataLoader` is.
        options: Of the loader, beside those that a comparison sets.
        strata: Integers (n,), the class of each sample; None: not known.
        settings: What has to be the same in all runs; kept in each line.
        source: Tells whether the code of `run` is the same; kept in each line.
    """

    run: Run
    dataset: Any
    epochs: int
    sizes: Steps
    loader: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    strata: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __call__(self, job: Job, tell: Tell) -> Line:
        """Makes a run and returns its line.

        Raises:
            RuntimeError: It did not train as the loader said.
            TypeError, ValueError: What it returned is no figure.
        """
        contender, rows = job.contender, Rows(job, tell)
        policy = contender.policy()
        described = describe(policy, held=True)  # before it remembers something
        length = contender.length(self.sizes, self.epochs)
        if contender.method == FULL:
            length["budget"] = 1.0  # the same samples, and `loader.total_steps` is known
            rows.observer = Observer(self.sizes.n, self.epochs, self.strata)
        known = self.strata is not None and takes_strata(policy)
        classes = {"strata": self.strata} if known else {}
        with seeded(job.seed):
            loader = self.loader(
                self.dataset,
                policy,
                seed=job.seed,
                batch_size=self.sizes.batch_size,
                drop_last=True,
                on_epoch=rows.take,
                **length,
                **classes,
                **self.options,
            )
            rows.loader = loader
            wall, cpu = time.perf_counter(), time.process_time()
            found = self._trained(loader, job)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.close()
        full_visits = self.sizes.most * self.epochs
        return {
            "method": contender.method,
            "budget": contender.budget,
            "seed": job.seed,
            "metrics": figures(found) if Group().first else {},  # others may measure nothing
            "visits": rows.visits,
            "full_visits": full_visits,
            "saved": 1 - rows.visits / full_visits,
            "n": self.sizes.n,
            "epochs": job.epochs,
            "full_epochs": self.epochs,
            "regime": rows.observer.figures() if rows.observer else None,
            "rows": [reduced(row, KEPT) for row in rows.rows],
            "seconds": round(wall, 4),
            "cpu_seconds": round(cpu, 4),
            "select_seconds": round(sum(row["select_seconds"] for row in rows.rows), 4),
            "policy": described,
            "settings": dict(self.settings),
            "source": self.source,
            **environment(),
        }

    def _trained(self, loader: Any, job: Job) -> Figures:
        """Calls the user's function.

        Raises:
            RuntimeError: It goes through its loader more often than there are epochs.
        """
        try:
            with _no_word_of_the_never_trained():
                return self.run(loader, job.seed)
        except RuntimeError as error:
            if f"all {job.epochs} epochs of this run are over" not in str(error):
                raise
            raise RuntimeError(
                f"run went through its loader more often than the {job.epochs} epochs that it has: "
                "walk through it as often as loader.epochs says (for epoch in "
                "range(loader.epochs)), which is not the same for all methods"
            ) from error


@contextmanager
def _no_word_of_the_never_trained() -> Iterator[None]:
    """Keeps the pruner's warning at the end of a run back: the line has the figure."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("the run ends with")

    pruner = logging.getLogger("seta.engine.pruner")
    pruner.addFilter(other)
    try:
        yield
    finally:
        pruner.removeFilter(other)


class Rows:
    """Listens to the epochs of a run."""

    def __init__(self, job: Job, tell: Tell) -> None:
        self._job, self._tell = job, tell
        self.rows: list[Row] = []
        self.visits = 0
        self.loader: Any = None
        self.observer: Observer | None = None

    def take(self, row: Row) -> None:
        """Takes the row of an epoch that has ended."""
        self.rows.append(row)
        self.visits += row["kept"]
        pruner = getattr(self.loader, "pruner", None)
        if self.observer and pruner is not None and pruner.held is None:
            self.observer.look(pruner.losses)
        self._tell(len(self.rows), self.visits, None)

    def close(self) -> None:
        """Ends the last epoch, if a `break` has left it open.

        Raises:
            RuntimeError: Epochs are missing, or not as long as planned.
        """
        pruner = getattr(self.loader, "pruner", None)
        if pruner is not None and pruner.epoch == self._job.epochs - 1:
            self.loader.end_epoch()
        trained, kept = (sum(row[name] for row in self.rows) for name in ("trained", "kept"))
        if len(self.rows) >= self._job.epochs and trained < ANSWERED * kept:
            raise RuntimeError(
                f"run trained {trained} of the {kept} samples that its loader chose, so that its "
                "cost is not what is said: answer every batch by loader.update(losses), and do not "
                "leave an epoch by break"
            )
        if len(self.rows) < self._job.epochs:
            raise RuntimeError(
                f"run trained {len(self.rows)} of the {self._job.epochs} epochs of its loader: "
                "walk through it as often as loader.epochs says (for epoch in "
                "range(loader.epochs)), which is not the same for all methods"
            )
        in_parts = pruner is not None and pruner.held is not None  # a batch short now and then
        if self.visits != self._job.visits and not in_parts:
            raise RuntimeError(
                f"the epochs of this run had {self.visits:,} samples, and not the "
                f"{self._job.visits:,} that make costs equal: loader= has to hand on epochs, "
                "budget, batch_size and drop_last"
            )


def figures(found: Any) -> dict[str, float]:
    """Returns what a run measured, by name; a single figure is called "figure".

    Raises:
        TypeError: It is no number and no mapping of numbers.
        ValueError: It is not finite, or nothing at all, or has the name of another column.
    """
    named = found if isinstance(found, Mapping) else {"figure": found}
    named = {text_of(name): value for name, value in named.items()}
    if not named:
        raise ValueError("run must return at least one figure, got an empty mapping")
    columns = [*COLUMNS, *(column for name in named for column in columns_of(name))]
    if twice := [name for name in named if columns.count(name) > 1]:
        raise ValueError(f"run must not name a figure {twice[0]!r}, as a column of the table is")
    return {name: _figure(name, value) for name, value in named.items()}


def _figure(name: str, value: Any) -> float:
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "size", None) is not None:
        count = value.numel() if hasattr(value, "numel") else value.size
        value = item() if count == 1 else value
    if isinstance(value, bool) or not isinstance(value, Real):
        kind = "None" if value is None else f"a {type(value).__name__}"
        raise TypeError(
            f"run must return a number, or a dict of numbers, such as the accuracy on held-out "
            f"samples; got {kind} for {name!r}"
        )
    figure = float(value)
    if not math.isfinite(figure) or abs(figure) > MOST:
        raise ValueError(
            f"run returned {figure} for {name!r}: a run that diverged cannot be compared; lower "
            "its learning rate, or return a figure that is finite"
        )
    return figure


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch, numpy and Python, and leaves their random states as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


def environment() -> dict[str, Any]:
    """Returns what a run was made with: versions, machine and date."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": {
            "seta": seta.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": device,
        },
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def reduced(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns these entries of a row, figures in six digits; what is not known is left out."""
    kept = {name: row[name] for name in names if row[name] is not None}
    return {name: json_figure(value, digits=6) for name, value in kept.items()}


def json_figure(value: Any, digits: int | None = None) -> Any:
    """Returns a figure as JSON has it, which knows no NaN and no infinity: None in their place."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")
