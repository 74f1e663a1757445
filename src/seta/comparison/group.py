"""The processes of a comparison that train together, under torchrun: all make every run.

The first of them reads and writes the files and shows progress; what it measured counts. They
speak over a group of their own: a run that failed on one process alone has left its collectives
unanswered on the others, and what is said here must not be taken for an answer.
"""

from __future__ import annotations

import logging
import traceback
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch.distributed as dist

from seta.comparison.lines import Line
from seta.comparison.runner import Make, Tell

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE = timedelta(days=7)
"""That one process may measure for, while the others wait."""


class Group:
    """The processes that train together; one alone, where torch.distributed is not initialised."""

    def __init__(self) -> None:
        self.size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.rank = dist.get_rank() if self.size > 1 else 0
        self.first = self.rank == 0

    @cached_property
    def _own(self) -> Any:
        return dist.new_group(backend="gloo", timeout=PATIENCE)

    def all(self, value: T) -> list[T]:
        """Returns the values of all processes.

        Raises:
            RuntimeError: torch.distributed is no longer initialised.
        """
        if self.size == 1:
            return [value]
        if not dist.is_initialized():
            raise RuntimeError(
                "run has ended the process group, which the next run needs: leave out "
                "accelerator.end_training() or destroy_process_group()"
            )
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._own)
        return found

    def of_first(self, value: T) -> T:
        """Returns the value of the first process."""
        return self.all(value)[0]

    def together(self, make: Make) -> Make:
        """Returns what makes a run on all processes, and fails on all where it fails on one."""
        if self.size == 1:
            return make

        def made(job: Any, tell: Tell) -> Line:
            line, fault = None, None
            try:
                line = make(job, tell)
            except (Exception, SystemExit):
                fault = traceback.format_exc()
                logger.error(
                    "%s failed on rank %d, which waits for the others:\n%s",
                    job.name,
                    self.rank,
                    fault,
                )
            for rank, other in enumerate(self.all(fault)):
                if other is not None:
                    raise RuntimeError(f"rank {rank}: {other}")
            lines = self.all(line or {})
            return lines[0]

        return made
