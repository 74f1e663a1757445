"""Learning-rate schedules for epochs of varying length.

A schedule counts steps. Pruning removes steps, without a budget an unknown number of them, so that
a schedule made for full training would stop early, at a learning rate that is too high. With a
budget, `loader.total_steps` is exact. Without one, `ProgressSchedule` drives any torch schedule by
the progress of the run, which always ends at 1.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch.optim.lr_scheduler import LRScheduler


class Progress(Protocol):
    """An object with the progress of a run, such as a `PrunedDataLoader`."""

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""


class ProgressSchedule:
    """Drives a learning-rate schedule by the progress of a run whose number of steps is not known.

    Call `step()` after each optimizer step, in place of the schedule's own. It steps the schedule
    zero, one or several times, so that both are equally far. `get_last_lr` returns the current
    learning rates. It has no state: save and load those of the schedule and the loader.

    Args:
        schedule: A torch schedule that is stepped without arguments, made for `steps` steps.
        steps: The step at which the schedule ends, >= 1: `T_max` of CosineAnnealingLR,
            `total_steps - 1` of OneCycleLR, the last argument of a lambda.
        loader: The `PrunedDataLoader` of the run.

    Raises:
        ValueError: `steps` is less than 1.

    Examples:
        >>> import torch
        >>> from seta import PrunedDataLoader
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)
        >>> loader = PrunedDataLoader(range(8), "Random", epochs=2, batch_size=2)
        >>> schedule = ProgressSchedule(linear, steps=100, loader=loader)
        >>> for batch in loader:                          # the first of two epochs
        ...     loss = loader.update(batch.float())
        ...     optimizer.step()
        ...     schedule.step()
        >>> round(schedule.get_last_lr()[0], 6)
        0.5
    """

    def __init__(self, schedule: LRScheduler, *, steps: int, loader: Progress) -> None:
        if steps < 1:
            raise ValueError(
                f"steps must be at least 1, got {steps}: the step at which the schedule ends, "
                "for example epochs x batches of full training"
            )
        self.schedule, self.steps, self._loader = schedule, steps, loader

    def step(self) -> None:
        """Steps the schedule as far as the run is."""
        wanted = round(self._loader.progress * self.steps)
        counting: Any = self.schedule
        if not hasattr(counting, "last_epoch"):  # a ChainedScheduler, whose parts go together
            counting = counting._schedulers[0]
        while counting.last_epoch < wanted:
            self.schedule.step()

    def get_last_lr(self) -> list[float]:
        """Returns the schedule's current learning rates."""
        return [float(rate) for rate in self.schedule.get_last_lr()]
