"""Makes runs, here or in worker processes, and hands their lines over as they come.

Each worker is a fresh process with a pipe of its own, which makes one run at a time. The parent
alone writes. A worker that dies costs the run that it was at; workers end with their parent,
however that ends, as each watches for its end. A run may start processes of its own, as data
loaders do.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from seta.comparison.lines import Line

_SECONDS_BETWEEN_LOOKS = 1.0
"""At silent workers: what a dead one started may still hold its end of the pipe."""

_SECONDS_TO_END = 5.0
"""That a process is given before it is killed."""

_CANNOT_START = (
    "worker processes cannot start. Each is a fresh Python that imports what trains: define that "
    "in a module or a script, not in a notebook or a shell, and start from a script under "
    "`if __name__ == '__main__':`; or make the runs without workers. Of the first: "
)


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
"""A run that failed, and the reason: a traceback, or a sentence."""


def cause_of(reason: str) -> str:
    """Returns the line of a reason that names what was raised: of a traceback the one after it."""
    lines = reason.strip().splitlines() or ["no reason given"]
    frames = [at for at, line in enumerate(lines) if line.startswith("  File ")]
    if not frames:
        return lines[-1]
    return next((line for line in lines[frames[-1] + 1 :] if line[:1].strip()), lines[-1])


@dataclass(frozen=True)
class Orders:
    """What all runs of a call have in common.

    Args:
        make: Makes a run.
        write: Called with each line, as soon as its run is over; returns why it refuses it, if it
            does: then the run has failed.
        watcher: Is told how the runs go.
        wanted: Asked before each run; those that nobody wants any more are left out.
        after: Called after each run that was written, when the watcher has been told.
    """

    make: Make
    write: Callable[[Line], str | None]
    watcher: Watcher
    wanted: Callable[[Any], bool] = lambda job: True
    after: Callable[[Line], object] = lambda line: None


def make_here(jobs: Iterable[Any], orders: Orders) -> list[Failure]:
    """Makes runs in this process, one after another; returns those that failed."""
    failures: list[Failure] = []
    watcher = orders.watcher
    for job in jobs:
        if not orders.wanted(job):
            watcher.left_out(job)
            continue
        watcher.started(0, job)
        kind, told = _made(orders.make, job, partial(watcher.epoch, 0, job))
        failures += _ended(0, job, kind, told, orders)
    return failures


def _made(make: Make, job: Any, tell: Tell) -> tuple[str, Any]:
    """Makes a run; returns its line, or why it failed."""
    try:
        return "line", make(job, tell)
    except (Exception, SystemExit):  # of one run; the others go on
        return "failed", traceback.format_exc()


def _ended(number: int, job: Any, kind: str, told: Any, orders: Orders) -> list[Failure]:
    """Hands over what became of a run; returns the run if it failed."""
    reason = orders.write(told) if kind == "line" else told
    if reason is None:
        orders.watcher.finished(number, job, told)
        orders.after(told)
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

    Raises:
        ValueError: There are no workers.
        TypeError: `orders.make` cannot be pickled.
        RuntimeError: No worker can start: it cannot load `orders.make`, or the script that calls.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}: make_here needs none")
    waiting = list(reversed(list(jobs)))
    make = _pickled(orders.make) if waiting else b""
    crew: dict[int, _Worker] = {}
    failures: list[Failure] = []
    proven = False  # that workers can start
    try:
        for number in range(min(workers, len(waiting))):
            crew[number] = _Worker(number, threads)
        for worker in crew.values():
            worker.load(make)
        while True:
            for worker in crew.values():
                failures += _hand_out(waiting, worker, orders)
            busy = [worker for worker in crew.values() if worker.job is not None]
            if not busy:
                return failures
            ready = wait([worker.pipe for worker in busy], timeout=_SECONDS_BETWEEN_LOOKS)
            for worker in busy:
                if worker.pipe not in ready and worker.running:
                    continue
                failures += _hear(worker, orders)
                proven = proven or worker.ready
                if not proven:
                    raise RuntimeError(_CANNOT_START + failures[-1][1])
                if not worker.alive:
                    crew[worker.number] = _Worker(worker.number, threads)
                    crew[worker.number].load(make)
    finally:
        for worker in crew.values():
            worker.end()


def _pickled(make: Make) -> bytes:
    """Returns what makes the runs as it is sent.

    Raises:
        TypeError: It, or the data set that it has, cannot be pickled.
    """
    try:
        return pickle.dumps(make)
    except Exception as error:
        raise TypeError(
            "the data set, and what else is sent to worker processes, must be something that can "
            "be pickled: define its class at the top of a module, not in a notebook or inside of a "
            f"function, and open its files in the process that reads ({error})"
        ) from error


class _Worker:
    """A process that makes runs, and the run that it is at."""

    def __init__(self, number: int, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.job: Any = None
        self.ready = False  # it has loaded what it needs
        self.alive = True
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, threads), daemon=True)
        self._process.start()
        other.close()  # so that reading and writing end when the process does

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process.is_alive()

    def load(self, make: bytes) -> None:
        """Gives it what makes the runs, which `start` would hang on if the process died."""
        with suppress(ConnectionError):  # it died: heard of when it is listened to
            self.pipe.send_bytes(make)

    def take(self, job: Any) -> str | None:
        """Gives it a run to make; returns why not, where it cannot be sent."""
        try:
            self.pipe.send(job)
        except ConnectionError:
            pass  # it died, as above
        except Exception:
            return traceback.format_exc()
        self.job = job
        return None

    def hear(self) -> tuple[str, Any]:
        """Returns what it has to tell; that it died, where it did."""
        try:
            data = self.pipe.recv_bytes() if self.pipe.poll() else None
        except (EOFError, OSError):  # the latter in the middle of a message
            data = None
        if data is None:
            self._process.join(_SECONDS_TO_END)
            code = self._process.exitcode
            self.end()
            return "failed", f"its process died with exit code {code}"
        try:
            told: tuple[str, Any] = pickle.loads(data)
        except Exception:
            self.end()  # who knows what else is under way
            return "failed", traceback.format_exc()
        return told

    def end(self) -> None:
        """Ends the process; the run that it is at is lost."""
        self.alive = False
        self._process.terminate()
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():  # a run may have its own way with signals
            self._process.kill()
            self._process.join()
        self.pipe.close()


def _hand_out(waiting: list[Any], worker: _Worker, orders: Orders) -> list[Failure]:
    """Gives an idle worker the next run that is wanted; returns those that cannot be sent."""
    failures: list[Failure] = []
    while worker.job is None and waiting:
        job = waiting.pop()
        if not orders.wanted(job):
            orders.watcher.left_out(job)
            continue
        orders.watcher.started(worker.number, job)
        reason = worker.take(job)
        if reason is not None:
            orders.watcher.failed(worker.number, job, reason)
            failures.append((job, reason))
    return failures


def _hear(worker: _Worker, orders: Orders) -> list[Failure]:
    """Passes on what a worker tells; returns its run if that failed."""
    job = worker.job
    kind, told = worker.hear()
    if kind == "unable":
        worker.end()
    if kind == "ready":
        worker.ready = True
        return []
    if kind == "epoch":
        orders.watcher.epoch(worker.number, job, *told)
        return []
    worker.job = None
    return _ended(worker.number, job, kind, told, orders)


def _work(pipe: Connection, threads: int | None) -> None:
    """What a worker does: takes runs from the pipe until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    multiprocessing.current_process().daemon = False  # daemons may have no data loaders' workers
    with suppress(EOFError, ConnectionError):  # the parent is gone
        data = pipe.recv_bytes()
        try:
            make = pickle.loads(data)
            if threads is not None:
                _limit(threads)
        except Exception:
            pipe.send(("unable", traceback.format_exc()))
            return
        pipe.send(("ready", None))
        while True:
            _make_run(pipe, make, pipe.recv_bytes())


def _make_run(pipe: Connection, make: Make, job: bytes) -> None:
    """Makes a run, and sends what it came to."""
    try:
        pipe.send(("line", make(pickle.loads(job), lambda *told: pipe.send(("epoch", told)))))
    except (Exception, SystemExit):
        pipe.send(("failed", traceback.format_exc()))


def _limit(threads: int) -> None:
    """Limits the threads of torch; of numpy too, whose idle threads spin, given threadpoolctl."""
    import torch

    torch.set_num_threads(threads)
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)


def _end_with_parent() -> None:
    """Waits for the end of the parent, a killed one too, and ends this process at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
