"""What is seen while runs are made: bars on a terminal, lines elsewhere.

On a terminal there is a bar over all visits, with the time that has passed and that is left, and a
bar per worker with its run, its epoch and the figure so far; a narrow one has the same in words.
Elsewhere (a log, a pipe, a notebook) there is a line per run that ends, and at most two a minute in
between. Needs rich.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from seta.comparison.lines import Line
from seta.comparison.runner import Job, Watcher, cause_of
from seta.terminal import is_live

_SECONDS_BETWEEN_LINES = 30.0
_ROOM_FOR_BARS = 110  # letters of a line
_SPEED_SECONDS = 6 * 3600.0  # epochs may take minutes: the speed is taken over all that was seen


@contextmanager
def display(console: Console, jobs: Sequence[Job], already: int) -> Iterator[Watcher]:
    """Shows runs while they are made.

    Args:
        console: Where to show.
        jobs: The runs to make.
        already: Runs that have a line from before.
    """
    if not is_live(console):
        yield _Lines(console, jobs, already)
        return
    columns = _columns() if console.width >= _ROOM_FOR_BARS else (_InWords(),)
    with Progress(*columns, console=console, speed_estimate_period=_SPEED_SECONDS) as progress:
        yield _Bars(progress, jobs, already)


def _columns() -> tuple[ProgressColumn, ...]:
    """What a wide terminal shows of a task, on one line unless its name is long."""
    name = Column(overflow="fold")
    return (
        TextColumn("{task.description}", markup=False, table_column=name),  # may have brackets
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(Column(no_wrap=True)),
        TextColumn("elapsed,"),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
    )


class _InWords(ProgressColumn):
    """The same for a narrow one: a line with the name, and below it what would be bars."""

    max_refresh = 0.5  # seconds between two

    def render(self, task: Task) -> Text:
        """Returns the words: asked by rich."""
        left = "time left unknown"
        if task.time_remaining is not None:
            left = f"{_clock(task.time_remaining)} left"
        parts = (
            f"{task.percentage:.0f}%",
            task.fields["state"],
            f"{_clock(task.elapsed or 0.0)} elapsed",
            left,
        )
        return Text(f"{task.description}\n  {', '.join(filter(None, parts))}")


def _clock(seconds: float) -> str:
    """Seconds as 0:02:20."""
    return str(timedelta(seconds=round(seconds)))


def result(line: Line) -> str:
    """What a run came to, in a few words."""
    measured = [f"{name} {_figure(figure)}, " for name, figure in line["metrics"].items()]
    return (
        f"{''.join(measured[:1])}{line['visits']:,} visits "
        f"({100 * line['saved']:.1f} % saved), {line['seconds']:.1f} s"
    )


def _figure(figure: float | None) -> str:
    return "unknown" if figure is None else f"{figure:.4g}"


class _Reasons:
    """Why runs have failed: each traceback once, as runs often fail alike."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def new(self, reason: str) -> str:
        """Returns what a reason names, and all of it where it is a new one."""
        cause, told = cause_of(reason), reason.strip()
        raised = told[max(0, told.rfind(cause)) :]
        if raised in self._known:
            return cause
        self._known.add(raised)
        return cause if cause == told else f"{cause}\n{reason.rstrip()}"


class _Visits:
    """Counts runs and visits done, of all that are to be made."""

    def __init__(self, jobs: Sequence[Job], already: int) -> None:
        self.total = sum(job.visits for job in jobs)
        self.runs, self.all_runs = already, already + len(jobs)
        self._ended = 0
        self._open: dict[int, int] = {}
        self._began = time.monotonic()

    @property
    def done(self) -> int:
        """Visits of the runs that ended, as planned, and of those under way."""
        return self._ended + sum(self._open.values())

    def reach(self, worker: int, visits: int) -> None:
        """Notes how far a worker is in its run."""
        self._open[worker] = visits

    def end(self, worker: int, job: Job) -> None:
        """Notes that a run is over: it counts what was planned, so that the sum comes out."""
        self._open.pop(worker, None)
        self._ended += job.visits
        self.runs += 1

    def fail(self, worker: int, job: Job) -> None:
        """Notes that a run came to nothing: its visits tell nothing of the speed."""
        self._open.pop(worker, None)
        self.total -= job.visits
        self.runs += 1

    def leave(self, job: Job) -> None:
        """Notes that a run is not made."""
        self.total -= job.visits
        self.all_runs -= 1

    @property
    def times(self) -> str:
        """How long it took so far, and what is left at that speed."""
        elapsed = time.monotonic() - self._began
        told = f"{_clock(elapsed)} elapsed"
        if not self.done:
            return f"{told}, time left unknown"
        return f"{told}, {_clock(elapsed * (self.total - self.done) / self.done)} left"


class _Bars:
    """A bar over all, and one per worker."""

    def __init__(self, progress: Progress, jobs: Sequence[Job], already: int) -> None:
        self._progress = progress
        self._visits = _Visits(jobs, already)
        self._all = progress.add_task("all runs", total=self._visits.total, state="")
        self._tasks: dict[int, TaskID] = {}
        self._figures: dict[int, str] = {}  # the last of each worker's run
        self._reasons = _Reasons()
        self._show()

    def started(self, worker: int, job: Job) -> None:
        self.remove(worker)
        self._tasks[worker] = self._progress.add_task(job.name, total=job.epochs, state="")

    def epoch(self, worker: int, job: Job, done: int, visits: int, figure: float | None) -> None:
        self._visits.reach(worker, visits)
        if figure is not None:
            self._figures[worker] = f", {figure:.4g}"
        state = f"epoch {done}/{job.epochs}{self._figures.get(worker, '')}"
        self._progress.update(self._tasks[worker], completed=done, state=state)
        self._show()

    def finished(self, worker: int, job: Job, line: Line) -> None:
        self._visits.end(worker, job)
        self._say(worker, f"{job.name}: {result(line)}")

    def failed(self, worker: int, job: Job, reason: str) -> None:
        self._visits.fail(worker, job)
        self._say(worker, f"{job.name}: FAILED, {self._reasons.new(reason)}")

    def left_out(self, job: Job) -> None:
        self._visits.leave(job)
        self._show()

    def remove(self, worker: int) -> None:
        """Takes the line of a worker off the screen."""
        self._figures.pop(worker, None)
        if worker in self._tasks:
            self._progress.remove_task(self._tasks.pop(worker))

    def _say(self, worker: int, text: str) -> None:
        self.remove(worker)
        self._progress.console.print(text, markup=False, highlight=False)
        self._show()

    def _show(self) -> None:
        visits = self._visits
        state = f"{visits.runs}/{visits.all_runs} runs"
        self._progress.update(self._all, completed=visits.done, total=visits.total, state=state)


class _Lines:
    """A line per run that ends, and now and then one in between."""

    def __init__(self, console: Console, jobs: Sequence[Job], already: int) -> None:
        self._console = console
        self._visits = _Visits(jobs, already)
        self._reasons = _Reasons()
        self._last = time.monotonic()

    def started(self, worker: int, job: Job) -> None:
        """Says nothing: there will be a line soon enough."""

    def epoch(self, worker: int, job: Job, done: int, visits: int, figure: float | None) -> None:
        self._visits.reach(worker, visits)
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            measured = "" if figure is None else f", {figure:.4g}"
            self._print(f"{job.name}: epoch {done} of {job.epochs}{measured}; {self._visits.times}")

    def finished(self, worker: int, job: Job, line: Line) -> None:
        self._visits.end(worker, job)
        self._print(f"{job.name}: {result(line)}; {self._visits.times}")

    def failed(self, worker: int, job: Job, reason: str) -> None:
        self._visits.fail(worker, job)
        self._print(f"{job.name}: FAILED, {self._reasons.new(reason)}")

    def left_out(self, job: Job) -> None:
        self._visits.leave(job)

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        count = f"[{self._visits.runs}/{self._visits.all_runs}]"
        self._console.print(f"{count} {text}", markup=False, highlight=False, soft_wrap=True)
