"""Runs that train nothing, for the tests of the runner; importable by its workers."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """A run; `do` names a function of this file, `path` and `other` are what it needs."""

    seed: int
    do: str = "train"
    path: Path | None = None
    other: Any = None
    visits: int = 20
    epochs: int = 2

    @property
    def name(self):
        return f"{self.do}, seed {self.seed}"


class Unloadable:
    """Can be pickled, and not loaded again."""

    def __reduce__(self):
        return (refuse, ())


def refuse():
    raise ImportError("only its own process has this")


@dataclass(frozen=True)
class Make:
    """Makes runs; carries what a user's function may."""

    first: Any = None
    second: Any = None

    def __call__(self, job, tell):
        return make(job, tell)


def make(job, tell):
    return globals()[job.do](job, tell)


def line(job, **more):
    return {"seed": job.seed, "process": os.getpid()} | more


def wait_for(condition, what, seconds=60.0):
    for _ in range(round(seconds * 100)):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"never came: {what}")


def gone(process):
    """Whether a process is over (a zombie that nobody waits for is, too)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# What a run may do


def train(job, tell):
    tell(1, 10, None)
    tell(2, 20, 0.5)
    return line(job)


def wait(job, tell):
    """Goes on when there is a file."""
    tell(1, 10, float(os.getpid()))
    wait_for(job.path.exists, job.path)
    return line(job)


def announce_and_wait(job, tell):
    """Leaves the number of its process in a folder, and waits for ever."""
    (job.path / str(os.getpid())).touch()
    wait_for(lambda: False, "anything")


def hold_on(job, tell):
    """Takes no notice of being asked to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(1, 10, float(os.getpid()))
    wait_for(lambda: False, "anything")


def fail(job, tell):
    tell(1, 10, None)
    raise ValueError(f"no seed {job.seed} here")


def fail_like_a_pipe(job, tell):
    """As reading a file that is cut off does."""
    raise EOFError("the data set is cut off")


def leave(job, tell):
    os._exit(3)


def be_killed(job, tell):
    tell(1, 10, None)
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed_in_mid_line(job, tell):
    """Its line is longer than a pipe takes at once; it is killed before anybody reads the rest."""
    tell(1, 10, float(os.getpid()))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return line(job, long="x" * 20_000_000)


def leave_a_child_and_die(job, tell):
    """The child has all that this process has open, and outlives it until there is a file."""
    context = multiprocessing.get_context("fork")
    context.Process(target=wait_for, args=(job.path.exists, job.path), daemon=True).start()
    os.kill(os.getpid(), signal.SIGKILL)


def line_that_cannot_be_pickled(job, tell):
    return line(job, bad=lambda: None)


def line_that_cannot_be_loaded(job, tell):
    return line(job, bad=Unloadable())


def figure_that_cannot_be_loaded(job, tell):
    tell(1, 10, Unloadable())
    return line(job)


def threads(job, tell):
    """Tells the threads that torch and numpy have."""
    import torch

    found = {"torch": torch.get_num_threads()}
    if job.other == "pools":
        from threadpoolctl import threadpool_info

        found["pools"] = {pool["num_threads"] for pool in threadpool_info()}
    return line(job, **found)


def load_data(job, tell):
    """Reads its data by worker processes of its own."""
    from torch.utils.data import DataLoader

    loader = DataLoader(range(8), batch_size=4, num_workers=1, multiprocessing_context="fork")
    return line(job, sums=[int(batch.sum()) for batch in loader])
