"""The processes of a comparison that train together, under torchrun: all make every run.

The first of them reads and writes the files and shows progress; what it measured counts.
"""

from __future__ import annotations

import traceback
from typing import Any, TypeVar

import torch.distributed as dist

from seta.comparison.lines import Line
from seta.comparison.runner import Make, Tell

T = TypeVar("T")


class Group:
    """The processes that train together; one alone, where torch.distributed is not initialised."""

    def __init__(self) -> None:
        self.size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.first = self.size == 1 or dist.get_rank() == 0

    def all(self, value: T) -> list[T]:
        """Returns the values of all processes."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
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
            except Exception:
                fault = traceback.format_exc()
            for rank, other in enumerate(self.all(fault)):
                if other is not None:
                    raise RuntimeError(f"rank {rank}: {other}")
            lines = self.all(line or {})
            return lines[0]

        return made
