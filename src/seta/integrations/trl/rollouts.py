"""Between a pruner and `GRPOTrainer`: numbered prompts, their order, and the lengths of a run.

A prompt is a sample of the pruner, and a batch is the prompts that TRL generates for at once. So an
epoch is a whole number of batches, except that of an epoch which keeps all prompts TRL drops the
remainder, as it does without pruning. Nothing here uses a private name of TRL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from seta.engine import Policy, Pruner
from seta.engine.steps import Budget, Steps, is_listed
from seta.integrations.transformers.arguments import PruningArguments
from seta.integrations.transformers.run import Run
from seta.rl.signal import check_right
from seta.rl.zero_signal import ZeroSignal
from seta.torch.dataset import rows_of

NUMBER = "seta_prompt"
"""The key of a row under which its number travels."""

_UNUSED = ("index_key", "reorder", "sample_losses")


@dataclass(frozen=True, eq=False)
class RolloutArguments(PruningArguments):
    """Arguments of pruning prompts for a `GRPOTrainer`.

    It has the attributes of `PruningArguments`, except that `index_key`, `reorder` and
    `sample_losses` cannot be used.

    Attributes:
        policy: `seta.rl.ZeroSignal()`, `seta.rl.SuccessRate()`, or another policy for the signals
            of `seta.rl.group_signal`; "Full", "Random" and "RS2" use no signals.
        right: Least reward of a rollout that counts as right; the reward is the weighted sum over
            all reward functions.
    """

    policy: Policy | str = field(default_factory=ZeroSignal)
    _: KW_ONLY
    right: float = 0.5

    def __post_init__(self) -> None:
        """Refuses what is for losses, and checks `right` before the first rollout.

        Raises:
            ValueError: One is given, or `right` is not finite.
            TypeError: `right` is no number.
        """
        check_right(self.right)
        for name in _UNUSED:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} has no use for rollouts, got {getattr(self, name)!r}: leave it out. "
                    "Prompts are numbered by themselves, come in TRL's order, and are judged by "
                    "their rewards"
                )


class NumberedPrompts(Dataset[Any]):
    """The user's prompts, each row with its number.

    Args:
        dataset: Map-style, of rows that are mappings. Its `set_epoch`, if any, is the wrapper's.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        if hasattr(dataset, "set_epoch"):
            self.set_epoch = dataset.set_epoch

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a row with its number.

        Raises:
            TypeError: It is no mapping.
            ValueError: It has such a key.
        """
        return _numbered(self.dataset[index], index)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Returns several rows, fetched at once where the dataset can do that."""
        rows = rows_of(self.dataset, indices)
        return [_numbered(row, index) for row, index in zip(rows, indices, strict=True)]


def _numbered(row: Any, index: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise TypeError(f"a row of train_dataset must be a mapping, got {type(row).__name__}")
    if NUMBER in row:
        raise ValueError(
            f"a row of train_dataset has the key {NUMBER!r} already: rename the column, the "
            "number of the prompt travels under it"
        )
    return {**row, NUMBER: index}


class RolloutSampler(Sampler[int]):
    """Yields the kept prompts in the order of TRL's sampler, with its repeats.

    The order is that of a stock run in the same epoch, less what is left out. An epoch that was
    begun before a resume has the same order again.

    Args:
        pruner: Keeps them.
        stock: TRL's own sampler, of all prompts.
    """

    def __init__(self, pruner: Pruner, stock: Any) -> None:
        self.pruner, self.stock = pruner, stock
        self._shuffled: Any = None
        self._order: list[int] = []
        self._made = 0  # orders drawn from its generator

    def __len__(self) -> int:
        """Rows of the open epoch, or of the next one; after the run, of the last one."""
        pruner = self.pruner
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs and pruner.history:
            return len(self._repeated(range(int(pruner.history[-1]["kept"]))))
        return len(self._repeated(range(len(pruner.begin_epoch()))))

    def __iter__(self) -> Iterator[int]:
        """Yields the rows of the open epoch.

        Raises:
            ValueError: The policy weights prompts.
        """
        selection = self.pruner.begin_epoch()
        if selection.weights is not None:
            raise ValueError(
                f"policy {self.pruner.policy!r} gives weights, which rollouts cannot have: choose "
                "one without, such as seta.rl.ZeroSignal()"
            )
        kept = np.zeros(self.pruner.n, bool)
        kept[selection.indices] = True
        chosen = [index for index in self.order(selection.epoch) if kept[index]]
        return (chosen[position] for position in self._repeated(chosen))

    def order(self, epoch: int) -> list[int]:
        """Returns the order that TRL gives to all prompts in an epoch."""
        if self._shuffled is None or self._made > epoch + 1:
            stock = self.stock
            self._made, self._shuffled = (
                0,
                type(stock)(range(self.pruner.n), 1, shuffle=stock.shuffle, seed=stock.seed),
            )
        while self._made <= epoch:
            self._order, self._made = list(self._shuffled), self._made + 1
        return self._order

    def _repeated(self, rows: Sequence[int]) -> Any:
        """Returns TRL's sampler over rows that are in order."""
        stock = self.stock
        counts = stock.mini_repeat_count, stock.batch_size, stock.repeat_count
        return type(stock)(rows, *counts, shuffle=False)


@dataclass(frozen=True)
class Generation:
    """The numbers of prompts and optimizer steps in TRL's generations.

    Attributes:
        prompts: That are generated for at once, over all processes.
        batches: Of the loader on each process, of one generation.
        accumulation: Batches of an optimizer step.
    """

    prompts: int
    batches: int
    accumulation: int

    def steps(self, samples: int) -> int:
        """Returns the optimizer steps of an epoch of so many prompts."""
        return ceil(samples // self.prompts * self.batches / self.accumulation)

    @property
    def whole(self) -> int:
        """Prompts that make whole generations and whole optimizer steps."""
        return self.prompts * self.accumulation // int(np.gcd(self.accumulation, self.batches))


class RolloutRun(Run):
    """A run of rollouts; see `Run`.

    Args:
        pruner: Its pruner.
        generation: How steps are made.
        most: Optimizer steps after which the run ends, in mid-epoch too; None: with its epochs.
    """

    def __init__(self, pruner: Pruner, generation: Generation, most: int | None) -> None:
        super().__init__(pruner, generation.accumulation)
        self._generation, self._most = generation, most

    def steps(self, epoch: int) -> int:
        """Optimizer steps of an epoch."""
        return self._generation.steps(self.samples(epoch))

    def batches(self, epoch: int) -> int:
        """Batches of the loader in an epoch, on each process."""
        generation = self._generation
        return self.samples(epoch) // generation.prompts * generation.batches

    @property
    def full(self) -> int:
        """Optimizer steps of an epoch that keeps all."""
        return self._generation.steps(self.pruner.n)

    @property
    def total(self) -> int:
        """Optimizer steps of the run; without a budget at most, but in its last epoch exactly."""
        total = super().total
        return total if self._most is None else min(total, self._most)

    def record(self, prompts: NDArray[np.int64], signals: NDArray[np.float32]) -> None:
        """Records the signals of groups, one of a prompt in an epoch.

        A run that goes on from the midst of a generation makes it anew; the first signals count.
        """
        self.answered = True
        fresh = self.pruner.left_out[prompts] > 0
        if fresh.any():
            self.pruner.record(prompts[fresh], signals[fresh])

    def _sizes(self) -> dict[str, int]:
        generation = self._generation
        return {
            "prompts_per_generation": generation.prompts,
            "batches_per_generation": generation.batches,
            "batches_per_step": generation.accumulation,
        }


def epochs_of(sizes: Steps, budget: Budget, generation: Generation, steps: int) -> int:
    """Returns how many epochs it takes to make so many optimizer steps.

    Raises:
        ValueError: `budget` has shares for fewer.
    """
    epochs = len(budget) if is_listed(budget) else 1
    while True:
        done = np.cumsum([generation.steps(n) for n in sizes.lengths(budget, epochs)])
        if done[-1] >= steps:
            return int(np.searchsorted(done, steps)) + 1
        if is_listed(budget):
            raise ValueError(
                f"budget must last for max_steps={steps}, got {epochs} shares of {done[-1]} steps: "
                "give more shares, or one for all epochs"
            )
        epochs *= 2
