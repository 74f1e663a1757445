"""One call of `Trainer.train`: its pruner, and the optimizer steps of its epochs.

The last step of an accumulation group is as large with one batch as with all, so the batch that
epochs are counted in is the samples of an optimizer step: the batches of the pruner's `sizes`
are optimizer steps. No cost of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainingArguments

from seta.engine import Pruner
from seta.engine.rows import Row
from seta.engine.state.fields import Field
from seta.engine.state.formats import name_of, upgrade
from seta.engine.steps import Budget, Steps
from seta.integrations.transformers.check import LossCheck
from seta.torch.buffer import LossBuffer


def length_of(args: TrainingArguments, budget: Budget | None, sizes: Steps) -> dict[str, Any]:
    """Returns the length of the run for its Pruner: in `epochs`, or in optimizer `steps`."""
    if args.max_steps > 0:
        return {"steps": args.max_steps}
    epochs = math.ceil(args.num_train_epochs)
    if budget is None or epochs == args.num_train_epochs:
        return {"epochs": epochs}
    *whole, last = map(sizes.batches, sizes.lengths(budget, epochs))
    return {"steps": sum(whole) + math.ceil((args.num_train_epochs - len(whole)) * last)}


class Run:
    """A run.

    Args:
        pruner: Its pruner; a batch of it is an optimizer step.
        accumulation: Batches of the loader in one of those.

    Attributes:
        buffer: Losses not yet recorded.
        start: The step that the open epoch began after; between two epochs, the last one.
        check: Compares the losses of batches with those of their samples.
        answered: Whether the losses of any batch of the open epoch were given.
        missed: Batches of it whose losses were not.
        warned: Whether a loss was seen that is not the one with the policy's weights.
    """

    def __init__(self, pruner: Pruner, accumulation: int) -> None:
        self.pruner, self._accumulation = pruner, accumulation
        self.buffer = LossBuffer(pruner)
        self.start = 0
        self.check: LossCheck | None = None
        self.answered, self.missed = False, 0
        self.warned = False

    def samples(self, epoch: int) -> int:
        """Samples of an epoch; without a budget, of one that has not begun, the most there are."""
        pruner = self.pruner
        if pruner.epoch == epoch:
            return pruner.kept
        return pruner.sizes.most if pruner.lengths is None else pruner.lengths[epoch]

    def steps(self, epoch: int) -> int:
        """Optimizer steps of an epoch."""
        return self.pruner.sizes.batches(self.samples(epoch))

    def batches(self, epoch: int) -> int:
        """Batches of the loader in an epoch, on each process."""
        sizes = self.pruner.sizes
        return -(-self.samples(epoch) * self._accumulation // sizes.global_batch)

    @property
    def full(self) -> int:
        """Optimizer steps of an epoch that keeps all."""
        return self.pruner.sizes.batches(self.pruner.sizes.most)

    @property
    def _left(self) -> range:
        """The epochs that are not over."""
        return range(self.pruner.next_epoch, self.pruner.epochs)

    @property
    def total(self) -> int:
        """Optimizer steps of the run; without a budget at most, but in its last epoch exactly."""
        return self.start + sum(map(self.steps, self._left))

    @property
    def visits(self) -> int:
        """Samples trained by the whole run, in `total` steps."""
        trained = sum(int(row["trained"]) for row in self.pruner.history)
        return trained + sum(map(self.samples, self._left))

    def complete(self, step: int) -> bool:
        """Whether all of the open epoch has been trained after so many steps."""
        epoch = self.pruner.epoch
        return epoch is not None and step - self.start >= self.steps(epoch)

    def end_epoch(self, step: int) -> Row:
        """Ends the open epoch after a number of steps; the processes exchange losses here."""
        row = self.pruner.end_epoch()
        self.start, self.answered, self.missed = step, False, 0
        return row

    def stretch(self, schedule: Callable[[Any], float]) -> Callable[[int], float]:
        """Returns a schedule that is as far along after each step as the run is.

        Args:
            schedule: Made for epochs of the full length.

        Returns:
            A function, since a schedule would save the attributes of anything else.
        """
        pruner, full = self.pruner, self.full

        def stretched(step: int) -> float:
            if pruner.epoch is None:
                return schedule(pruner.next_epoch * full)
            done = max(0, step - self.start) / self.steps(pruner.epoch)
            return schedule((pruner.epoch + min(1.0, done)) * full)

        return stretched

    def state_dict(self, step: int) -> dict[str, Any]:
        """Returns the state to resume from; within an epoch all processes must call it."""
        return {
            "format": name_of("trainer"),
            "pruner": self.pruner.state_dict(begun=True, copy=False),
            "done": step - self.start,
            "sizes": self._sizes(),
        }

    def load_state_dict(
        self, saved: Mapping[str, Any], step: int, changed: Iterable[str]
    ) -> tuple[int, int]:
        """Resumes from a saved state.

        Returns:
            The epoch to go on in, and the batches of it that are trained.

        Raises:
            ValueError: The state is of another run, or of other steps.
        """
        state = Field(upgrade(saved, "trainer"))
        for name, value in self._sizes().items():
            found = state["sizes"][name].value
            if found != value:
                raise ValueError(
                    f"the checkpoint was saved with {name} = {found}, this run has {value}: "
                    "positions and learning rates count steps. Resume with the same product of "
                    "processes, per_device_train_batch_size and gradient_accumulation_steps, and "
                    "the same dataloader_drop_last"
                )
        done = state["done"].integer(0, step)
        self.pruner.load_state_dict(state["pruner"].value, changed=changed)
        self.start = step - done
        return self.pruner.next_epoch, done * self._accumulation

    def _sizes(self) -> dict[str, int]:
        """Returns what a resumed run must have in common with this one."""
        sizes = self.pruner.sizes
        return {
            "samples_per_step": sizes.global_batch,
            "whole_steps_only": sizes.drop_last,
        }
