"""What is seen while a demo runs: a live table with a bar per run, or plain lines.

The driver tells a display what has been measured; the display decides what to show. On a terminal
the screen is redrawn four times a second; elsewhere (a pipe, a log, a dumb terminal) there is a
line per finished run, and now and then one in between, without control characters.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seta.report.results import Run, summarise
from seta.report.tables import results_table

__all__ = ["Display", "LiveDisplay", "PlainDisplay", "decoding", "make_display"]

_BAR = 10
_CELL = _BAR + 9  # a bar, its epochs in figures, and the space between


class Display(Protocol):
    """Shows runs; a context manager around them."""

    def __enter__(self) -> "Display": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def update(self, run: Run) -> None:
        """Tell that `run` has a new row."""


def make_display(console: Console, runs: Sequence[Run]) -> Display:
    """The display that fits the console.

    Args:
        console: Where to show.
        runs: All runs of the demo, in the order in which they will be made; without rows yet.
    """
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(console, runs)
    return PlainDisplay(console, runs)


class PlainDisplay:
    """Lines: one per finished run, and at most one every ten seconds in between."""

    def __init__(self, console: Console, runs: Sequence[Run], every: float = 10.0) -> None:
        self._console = console
        self._total = len(runs)
        self._done = 0
        self._every = every
        self._last = time.monotonic()

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def update(self, run: Run) -> None:
        """Print a line if it is time for one."""
        self._done += run.finished
        if not run.finished and time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        what = f"[{self._done}/{self._total}] {run.method}, seed {run.seed}"
        if not run.finished:
            what += f", epoch {len(run.rows)} of {run.epochs}"
        self._print(
            f"{what}: accuracy {100 * run.last('accuracy'):.2f} %, "
            f"{run.last('visits'):,.0f} samples trained, {run.last('seconds'):.1f} s"
        )

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A grid of progress bars, methods by seeds, over the table of results so far."""

    def __init__(self, console: Console, runs: Sequence[Run]) -> None:
        self._console = console
        self._runs = runs
        self._current: Run | None = None
        self._live = Live(console=console, get_renderable=self._render, transient=True)

    def __enter__(self) -> "LiveDisplay":
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def update(self, run: Run) -> None:
        """Note which run is under way; the screen follows by itself."""
        self._current = run

    def _render(self) -> Group:
        table = results_table(summarise(self._runs), title="Last epochs so far")
        return Group(self._bars(), Text(self._status()), table)

    def _bars(self) -> Table:
        """A bar per run; of many seeds, those that fit, around the one under way."""
        methods = list(dict.fromkeys(run.method for run in self._runs))
        seeds = self._visible(sorted({run.seed for run in self._runs}))
        by_place = {(run.method, run.seed): run for run in self._runs}
        grid = Table(box=None, pad_edge=False)
        grid.add_column("")
        for seed in seeds:
            grid.add_column(f"seed {seed}")
        for method in methods:
            grid.add_row(method, *(_bar(by_place[method, seed]) for seed in seeds))
        return grid

    def _visible(self, seeds: list[int]) -> list[int]:
        fit = max(1, (self._console.width - 20) // _CELL)
        current = self._current.seed if self._current else seeds[0]
        start = max(0, min(seeds.index(current), len(seeds) - fit))
        return seeds[start : start + fit]

    def _status(self) -> str:
        done = sum(run.finished for run in self._runs)
        if self._current is None:
            return f"{done} of {len(self._runs)} runs done"
        run = self._current
        return (
            f"{done} of {len(self._runs)} runs done; last: {run.method}, seed {run.seed}, epoch "
            f"{len(run.rows)} of {run.epochs}, accuracy {100 * run.last('accuracy'):.2f} %"
        )


def _bar(run: Run) -> Table:
    """How far a run is: a bar, and its epochs in figures."""
    cell = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=run.epochs, completed=len(run.rows), width=_BAR)
    cell.add_row(bar, f"{len(run.rows)}/{run.epochs}")
    return cell


@contextmanager
def decoding(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far the decoding of a file is; yields what to call with (done, total)."""
    if not console.is_terminal or console.is_dumb_terminal:
        console.print(f"decoding {name} ...", markup=False, highlight=False)
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"decoding {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
