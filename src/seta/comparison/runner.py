"""Makes runs, here or in worker processes, and hands their lines over as they come.

Each worker is a fresh process with a pipe of its own, which makes one run at a time. The parent
alone writes. A worker that dies costs the run that it was at; workers end with their parent,
however that ends, as each watches for its end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from seta.comparison.lines import Line


class Job(Protocol):
    """A run that is to be made."""

    @property
    def name(self) -> str:
        """What a person reads."""

    @property
    def visits(self) -> int:
        """The most samples that it can train."""

    @property
    def epochs(self) -> int:
        """Its length."""


class Watcher(Protocol):
    """Is told how the runs go; called in the parent."""

    def started(self, worker: int, job: Any) -> None:
        """A worker takes up a run."""

    def epoch(self, worker: int, job: Any, done: int, visits: int, figure: float | None) -> None:
        """A run has done an epoch; `figure` is what was measured after it, if anything was."""

    def finished(self, worker: int, job: Any, line: Line) -> None:
        """A run is over, and its line written."""

    def failed(self, worker: int, job: Any, reason: str) -> None:
        """A run came to nothing; the others go on."""

    def left_out(self, job: Any) -> None:
        """A run is not wanted any more."""


Tell = Callable[[int, int, "float | None"], object]
"""Called after each epoch with the epochs done, the visits so far, the figure if measured."""

Make = Callable[[Any, Tell], Line]
"""Makes a run and returns its line; where there are workers, it is sent to each of them."""

Failure = tuple[Any, str]
"""A run that failed, and the reason."""


@dataclass(frozen=True)
class Orders:
    """What all runs of a call have in common.

    Args:
        make: Makes a run.
        write: Called with each line, as soon as its run is over; returns why it refuses it, if it
            does: then the run has failed.
        watcher: Is told how the runs go.
        wanted: Asked before each run; those that nobody wants any more are left out.
    """

    make: Make
    write: Callable[[Line], str | None]
    watcher: Watcher
    wanted: Callable[[Any], bool] = lambda job: True


def make_here(jobs: Iterable[Any], orders: Orders) -> list[Failure]:
    """Makes runs in this process, one after another; returns those that failed."""
    failures: list[Failure] = []
    watcher = orders.watcher
    for job in jobs:
        if not orders.wanted(job):
            watcher.left_out(job)
            continue
        watcher.started(0, job)

        def tell(done: int, visits: int, figure: float | None, of: Any = job) -> None:
            watcher.epoch(0, of, done, visits, figure)

        kind, told = _made(orders.make, job, tell)
        failures += _ended(0, job, kind, told, orders)
    return failures


def _made(make: Make, job: Any, tell: Tell) -> tuple[str, Any]:
    """Makes a run; returns its line, or why it failed."""
    try:
        return "line", make(job, tell)
    except Exception:
        return "failed", traceback.format_exc()


def _ended(number: int, job: Any, kind: str, told: Any, orders: Orders) -> list[Failure]:
    """Hands over what became of a run; returns the run if it failed."""
    reason = orders.write(told) if kind == "line" else told
    if reason is None:
        orders.watcher.finished(number, job, told)
        return []
    orders.watcher.failed(number, job, reason)
    return [(job, reason)]


def make_apart(
    jobs: Iterable[Any], orders: Orders, *, workers: int, threads: int | None = None
) -> list[Failure]:
    """Makes runs in processes of their own, several at a time.

    Args:
        jobs: The runs, in order; sent to the workers, as `orders.make` is.
        orders: What they have in common.
        workers: Runs that are made at a time.
        threads: Of torch and numpy, in each worker; None: their own choice.

    Returns:
        The runs that failed.
    """
    waiting = list(reversed(list(jobs)))
    crew = {
        number: _Worker(number, orders.make, threads)
        for number in range(min(workers, len(waiting)))
    }
    failures: list[Failure] = []
    try:
        while True:
            for worker in crew.values():
                while worker.job is None and waiting:
                    job = waiting.pop()
                    if orders.wanted(job):
                        worker.take(job)
                        orders.watcher.started(worker.number, job)
                    else:
                        orders.watcher.left_out(job)
            busy = [worker for worker in crew.values() if worker.job is not None]
            if not busy:
                return failures
            ready = wait([worker.pipe for worker in busy])
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                failures += _hear(worker, orders)
                if not worker.alive:
                    crew[worker.number] = _Worker(worker.number, orders.make, threads)
    finally:
        for worker in crew.values():
            worker.end()


class _Worker:
    """A process that makes runs, and the run that it is at."""

    def __init__(self, number: int, make: Make, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.job: Any = None
        self.alive = True
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, make, threads), daemon=True)
        self._process.start()
        other.close()  # so that reading ends when the process does

    def take(self, job: Any) -> None:
        """Gives it a run to make."""
        self.job = job
        with suppress(BrokenPipeError):  # it died: heard of when it is listened to
            self.pipe.send(job)

    def hear(self) -> tuple[str, Any]:
        """Returns what it has to tell; that it died, where it did."""
        try:
            told: tuple[str, Any] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.alive = False
            self._process.join()
            return "failed", f"its process died with exit code {self._process.exitcode}"
        return told

    def end(self) -> None:
        """Ends the process; the run that it is at is lost."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _hear(worker: _Worker, orders: Orders) -> list[Failure]:
    """Passes on what a worker tells; returns its run if that failed."""
    job = worker.job
    kind, told = worker.hear()
    if kind == "epoch":
        orders.watcher.epoch(worker.number, job, *told)
        return []
    worker.job = None
    return _ended(worker.number, job, kind, told, orders)


def _work(pipe: Connection, make: Make, threads: int | None) -> None:
    """What a worker does: takes runs from the pipe until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads is not None:
        _limit(threads)
    while True:
        job = pipe.recv()
        pipe.send(_made(make, job, lambda *told: pipe.send(("epoch", told))))


def _limit(threads: int) -> None:
    """Limits the threads of torch; of numpy too, whose idle threads spin."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _end_with_parent() -> None:
    """Waits for the end of the parent, a killed one too, and ends this process at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
