"""Learning-rate schedules on epochs of varying length.

A schedule counts steps; pruning takes steps away, and nobody knows beforehand how many. So a
schedule made for full training stops half-way, at a learning rate that was never meant to be the
last. With a budget it need not: `loader.total_steps` is exact. Without one, `ProgressSchedule`
drives any torch schedule by the share of the run that is done, which ends at 1 whatever the
lengths of the epochs.
"""

from __future__ import annotations

from typing import Protocol

from torch.optim.lr_scheduler import LRScheduler


class Progress(Protocol):
    """What knows how far a run is: a `PrunedDataLoader`."""

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""


class ProgressSchedule:
    """Steps a schedule so that it is as far along as the run is.

    Call `step()` where the schedule's own would be called, after each optimizer step. It steps the
    schedule as often as it takes: never, once or several times.

    Args:
        schedule: Any torch schedule that is stepped without arguments, made for `steps` steps.
        steps: The step at which the schedule has come to its end: the last value of its lambda,
            `T_max` of CosineAnnealingLR, `total_steps - 1` of OneCycleLR.
        loader: The `PrunedDataLoader` that the run goes over.

    Raises:
        ValueError: `steps` is less than 1.

    It holds nothing of its own: save and load the schedule's state and the loader's.
    """

    def __init__(self, schedule: LRScheduler, *, steps: int, loader: Progress) -> None:
        if steps < 1:
            raise ValueError(
                f"steps must be at least 1, got {steps}: the step at which the schedule ends, "
                "for example epochs x batches of full training"
            )
        self.schedule, self.steps, self._loader = schedule, steps, loader

    def step(self) -> None:
        """Takes the schedule to where the run is."""
        wanted = round(self._loader.progress * self.steps)
        while self.schedule.last_epoch < wanted:
            self.schedule.step()

    def get_last_lr(self) -> list[float]:
        """Returns the schedule's current learning rates."""
        return [float(rate) for rate in self.schedule.get_last_lr()]
