"""Makes the runs of a suite, in any process that it is sent to; each one makes its own tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.accuracy.plan import Job
from benchmarks.accuracy.suites import Suite, make_task
from benchmarks.accuracy.task import Task
from seta.comparison.lines import Line
from seta.comparison.runner import Tell


@dataclass
class Maker:
    """Called with a run that is to be made, it makes it and returns its line.

    A task is made where its first run is, and kept for the others; pickled, it holds none.

    Args:
        suite: Whose tasks are trained.
        data: Folder of the data sets.
        device: "cpu" or "cuda".
        workers: Runs that are made at a time, for the lines.
        command: How to make them again, for the lines.
    """

    suite: Suite
    data: Path | None = None
    device: str = "cpu"
    workers: int = 1
    command: str = ""
    _tasks: dict[str, Task] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, job: Job, tell: Tell) -> Line:
        """Returns the line of a run; `tell` is called after each epoch."""
        from benchmarks.accuracy.run import make_line  # not before a run needs it

        line = make_line(
            self._task(job.variant),
            job.contender,
            suite=job.suite,
            variant=job.variant,
            seed=job.seed,
            full_epochs=job.full_epochs,
            device=self.device,
            on_epoch=tell,
        )
        return line | {"jobs": self.workers, "command": self.command}

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: all but the tasks."""
        return self.__dict__ | {"_tasks": {}}

    def _task(self, variant: str) -> Task:
        from benchmarks.accuracy.run import warm_up

        if variant not in self._tasks:
            task = make_task(self.suite.variants[variant], self.data, self.device)
            warm_up(task)
            self._tasks[variant] = task
        return self._tasks[variant]
