"""A schedule that Lightning takes for one of torch's, driven by the progress of the run."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from seta.torch.schedule import ProgressSchedule


class DrivenSchedule(LRScheduler):
    """Each step takes the schedule to where the run is; the state is the schedule's own.

    Args:
        driver: Of the schedule.
    """

    def __init__(self, driver: ProgressSchedule) -> None:  # torch's own would step
        self._driver = driver
        self.optimizer = driver.schedule.optimizer

    def step(self, epoch: int | None = None) -> None:
        """Takes the schedule to where the run is."""
        self._driver.step()

    def get_last_lr(self) -> list[float | Tensor]:
        """Returns the schedule's current learning rates."""
        return self._driver.schedule.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Returns the schedule's state."""
        return self._driver.schedule.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the schedule's state."""
        self._driver.schedule.load_state_dict(state_dict)
