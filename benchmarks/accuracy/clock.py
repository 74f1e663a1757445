"""The time that training takes, the evaluations in between left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Clock:
    """Wall and CPU seconds of the stretches that it runs for."""

    device: str = "cpu"
    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time within; waits for the device at both ends."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self._wait()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
