"""One call of `Trainer.train`: its pruner, and where its epochs lie among the optimizer's steps.

`Trainer` takes all epochs for equally long. Under a budget the length of each is known before the
first, so the run's steps are exact from the start; without one they follow epoch by epoch. No cost
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from seta.engine import Pruner
from seta.engine.budget import epoch_lengths
from seta.engine.rows import Row
from seta.integrations.transformers.arguments import SeTaArguments
from seta.torch.buffer import LossBuffer

FORMAT = "seta-trainer-1"


@dataclass(frozen=True)
class Steps:
    """How samples make up batches, and batches optimizer steps.

    Attributes:
        batch: Samples of one batch, over all processes.
        accumulation: Batches of one optimizer step.
        whole: Whether an incomplete last batch is left out.
    """

    batch: int
    accumulation: int
    whole: bool

    def batches(self, samples: int) -> int:
        """Batches of each process."""
        return samples // self.batch if self.whole else -(-samples // self.batch)

    def updates(self, samples: int) -> int:
        """Optimizer steps."""
        return -(-self.batches(samples) // self.accumulation)


def epochs_of(
    args: TrainingArguments, seta: SeTaArguments, n: int, unit: int, steps: Steps
) -> tuple[int, int | None]:
    """Returns the epochs of the run, and the step that it stops at where that is not its end.

    Raises:
        ValueError: `max_steps` are more than a budget of one share per epoch lasts for.
    """
    budget = seta.budget
    if budget is None or args.max_steps <= 0:
        epochs = math.ceil(args.num_train_epochs)
        if budget is None or epochs == args.num_train_epochs:
            return epochs, None
        updates = [steps.updates(length) for length in epoch_lengths(budget, n, epochs, unit)]
        share = args.num_train_epochs - (epochs - 1)
        return epochs, sum(updates[:-1]) + math.ceil(share * updates[-1])
    if not callable(budget) and not isinstance(budget, (int, float)):
        lengths = epoch_lengths(budget, n, len(budget), unit)
        given = sum(steps.updates(length) for length in lengths)
        if given < args.max_steps:
            raise ValueError(
                f"max_steps={args.max_steps} is more than the {given} steps of the {len(budget)} "
                "epochs that budget has a share for: give more shares, or one for all epochs"
            )
        return len(budget), args.max_steps
    epochs = 1
    while True:
        taken = 0
        for epoch, length in enumerate(epoch_lengths(budget, n, epochs, unit)):
            taken += steps.updates(length)
            if taken >= args.max_steps:
                return epoch + 1, args.max_steps
        epochs *= 2


class Run:
    """A run.

    Args:
        pruner: Its pruner.
        steps: How samples make up its steps.
        stop: The step that it stops at, where that is not the end of its last epoch.

    Attributes:
        buffer: Losses not yet recorded.
        epoch: The epoch that training is in, or was last.
        start: The step that it began after.
        due: Its optimizer steps.
        checked: Whether the losses of a batch have been compared with its loss.
    """

    def __init__(self, pruner: Pruner, steps: Steps, stop: int | None) -> None:
        self.pruner, self.steps, self._stop = pruner, steps, stop
        self.buffer = LossBuffer(pruner.record)
        self.epoch: int | None = None
        self.start = self.due = 0
        self.checked = False

    def begin(self, epoch: int, step: int) -> None:
        """Opens an epoch, if it is not open; the one before must be over."""
        samples = len(self.pruner.begin_epoch(epoch))
        if self.epoch != epoch:
            self.epoch, self.start, self.due = epoch, step, self.steps.updates(samples)

    def end(self) -> Row | None:
        """Ends the open epoch, the one exchange between processes; returns its row, if one was."""
        if self.pruner.epoch is None:
            return None
        self.buffer.drain()
        return self.pruner.end_epoch()

    def samples(self, epoch: int) -> int:
        """Samples of an epoch; without a budget, of one that has not begun, all."""
        if self.pruner.epoch == epoch:
            return len(self.pruner.begin_epoch())
        return self.pruner.n if self.pruner.lengths is None else self.pruner.lengths[epoch]

    def updates(self, epoch: int) -> int:
        """Optimizer steps of an epoch."""
        return self.steps.updates(self.samples(epoch))

    @property
    def total(self) -> int:
        """Optimizer steps of the run; without a budget at most, but in its last epoch exactly."""
        later = range(0 if self.epoch is None else self.epoch + 1, self.pruner.epochs)
        total = self.start + self.due + sum(self.updates(epoch) for epoch in later)
        return total if self._stop is None else min(total, self._stop)

    @property
    def visits(self) -> int:
        """Samples trained by the whole run, in `total` steps."""
        if self._stop is not None:
            return self.total * self.steps.batch * self.steps.accumulation
        trained = sum(int(row["trained"]) for row in self.pruner.history)
        later = range(self.pruner.next_epoch, self.pruner.epochs)
        return trained + sum(self.samples(epoch) for epoch in later)

    def complete(self, step: int) -> bool:
        """Whether all of the open epoch has been trained after so many steps."""
        return self.pruner.epoch == self.epoch is not None and step - self.start >= self.due

    def stretch(self, schedule: Callable[[Any], float]) -> Callable[[int], float]:
        """Returns a schedule that is as far along after each step as the run is.

        Args:
            schedule: Made for epochs of the full length.

        Returns:
            A function, since a schedule would save the attributes of anything else.
        """
        full = self.steps.updates(self.pruner.n)

        def stretched(step: int) -> float:
            if self.epoch is None:
                return schedule(0.0)
            done = max(0, step - self.start) / max(1, self.due)
            return schedule((self.epoch + min(1.0, done)) * full)

        return stretched

    def state_dict(self, step: int) -> dict[str, Any]:
        """Returns all there is to go on from here. In mid-epoch all processes call it."""
        self.buffer.drain()
        return {
            "format": FORMAT,
            "pruner": self.pruner.state_dict(copy=False),
            "epoch": self.epoch,
            "start": self.start,
            "due": self.due,
            "batch": self.steps.batch,
            "accumulation": self.steps.accumulation,
        }

    def load_state_dict(
        self, saved: Mapping[str, Any], step: int, changed: tuple[str, ...]
    ) -> tuple[int, int]:
        """Goes on from a saved state.

        Returns:
            The epoch to go on in, and the batches of it that are trained.

        Raises:
            ValueError: The state is of another run, or of other batches.
        """
        own = {"batch": self.steps.batch, "accumulation": self.steps.accumulation}
        if saved.get("format") != FORMAT:
            raise ValueError(f"not the state of a SeTaTrainer: {saved.get('format')!r}")
        for key, value in own.items():
            if saved[key] != value:
                raise ValueError(
                    f"the checkpoint was saved with {_MEANING[key]} {saved[key]}, this run has "
                    f"{value}: positions and learning rates count steps. Resume with the same "
                    "processes x per_device_train_batch_size and gradient_accumulation_steps"
                )
        self.pruner.load_state_dict(saved["pruner"], changed=changed)
        self.epoch, self.start, self.due = (saved[key] for key in ("epoch", "start", "due"))
        if self.pruner.epoch is None:
            return self.pruner.next_epoch, 0
        if self.pruner.epoch != self.epoch:  # opened by a look at it, not by training
            return self.pruner.epoch, 0
        return self.pruner.epoch, (step - self.start) * self.steps.accumulation


_MEANING = {
    "batch": "batches (over all processes) of",
    "accumulation": "gradient_accumulation_steps",
}
