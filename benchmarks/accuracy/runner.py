"""Makes runs in worker processes and hands their lines over as they come.

Each worker is a fresh process with a pipe of its own; it makes a task once, keeps it, and makes one
run at a time. The parent alone writes. A worker that dies costs the run that it was at; workers end
with their parent, however that ends, as each watches for its end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from benchmarks.accuracy.lines import Line
from benchmarks.accuracy.plan import Job
from benchmarks.accuracy.suites import Suite, make_task


class Watcher(Protocol):
    """Is told how the runs go; called in the parent."""

    def started(self, worker: int, job: Job) -> None:
        """A worker takes up a run."""

    def epoch(self, worker: int, job: Job, done: int, visits: int, accuracy: float | None) -> None:
        """A run has done an epoch."""

    def finished(self, worker: int, job: Job, line: Line) -> None:
        """A run is over, and its line written."""

    def failed(self, worker: int, job: Job, reason: str) -> None:
        """A run came to nothing; the others go on."""


@dataclass(frozen=True)
class Circumstances:
    """What all runs of a call have in common.

    Args:
        suite: Whose tasks are trained.
        data: Folder of the data sets.
        device: "cpu" or "cuda".
        threads: Of torch, in each worker.
        workers: Runs that are made at a time.
        command: How to make them again, for the lines.
    """

    suite: Suite
    data: Path | None = None
    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    command: str = ""


def make_runs(
    jobs: Iterable[Job],
    circumstances: Circumstances,
    write: Callable[[Line], object],
    watcher: Watcher,
) -> list[tuple[Job, str]]:
    """Makes runs, several at a time.

    Args:
        jobs: The runs, in order.
        circumstances: What they have in common.
        write: Called with each line, as soon as its run is over.
        watcher: Is told how they go.

    Returns:
        The runs that failed, with the reason.
    """
    waiting = list(reversed(list(jobs)))
    count = min(circumstances.workers, len(waiting))
    workers = {number: _Worker(number, circumstances) for number in range(count)}
    failures: list[tuple[Job, str]] = []
    try:
        while True:
            for worker in workers.values():
                if worker.job is None and waiting:
                    worker.take(waiting.pop())
                    watcher.started(worker.number, worker.current)
            busy = [worker for worker in workers.values() if worker.job is not None]
            if not busy:
                return failures
            ready = wait([worker.pipe for worker in busy])
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                failures += _hear(worker, write, watcher)
                if not worker.alive:
                    workers[worker.number] = _Worker(worker.number, circumstances)
    finally:
        for worker in workers.values():
            worker.end()


class _Worker:
    """A process that makes runs, and the run that it is at."""

    def __init__(self, number: int, circumstances: Circumstances) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.job: Job | None = None
        self.alive = True
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, circumstances), daemon=True)
        self._process.start()
        other.close()  # so that reading ends when the process does

    @property
    def current(self) -> Job:
        """The run that it is at."""
        if self.job is None:
            raise RuntimeError(f"worker {self.number} is at no run: give it one by take(job)")
        return self.job

    def take(self, job: Job) -> None:
        """Gives it a run to make."""
        self.job = job
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


def _hear(
    worker: _Worker, write: Callable[[Line], object], watcher: Watcher
) -> list[tuple[Job, str]]:
    """Passes on what a worker tells; returns its run if that failed."""
    job = worker.current
    kind, told = worker.hear()
    if kind == "epoch":
        watcher.epoch(worker.number, job, *told)
        return []
    worker.job = None
    if kind == "line":
        write(told)
        watcher.finished(worker.number, job, told)
        return []
    watcher.failed(worker.number, job, told)
    return [(job, told)]


def _work(pipe: Connection, circumstances: Circumstances) -> None:
    """What a worker does: takes runs from the pipe until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(circumstances.threads)
    threadpool_limits(circumstances.threads)  # numpy's too: its idle threads spin
    tasks: dict[str, Any] = {}
    while True:
        job: Job = pipe.recv()
        try:
            pipe.send(("line", _line(job, circumstances, tasks, pipe)))
        except Exception:
            pipe.send(("failed", traceback.format_exc()))


def _end_with_parent() -> None:
    """Waits for the end of the parent, a killed one too, and ends this process at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _line(job: Job, circumstances: Circumstances, tasks: dict[str, Any], pipe: Connection) -> Line:
    """Makes a run; its task is made where it is the first."""
    from benchmarks.accuracy.run import make_line, warm_up

    common = circumstances
    if job.variant not in tasks:
        task = make_task(common.suite.variants[job.variant], common.data, common.device)
        warm_up(task)
        tasks[job.variant] = task
    line = make_line(
        tasks[job.variant],
        job.contender,
        suite=job.suite,
        variant=job.variant,
        seed=job.seed,
        full_epochs=job.epochs,
        device=common.device,
        on_epoch=lambda *told: pipe.send(("epoch", told)),
    )
    return line | {"jobs": common.workers, "command": common.command}
