"""TRL's `GRPOTrainer`: generates rollouts for the prompts that a policy keeps.

    trainer = PrunedGRPOTrainer(
        model,
        reward_funcs=reward,
        args=GRPOConfig(...),
        train_dataset=dataset,
        pruning=RolloutArguments(budget=0.6),
    )
    trainer.train()

Two methods of the trainer are overridden: its sampler, which yields the kept prompts, and the
computation of its rewards, which are recorded. Generation, loss and loop are TRL's. Each row
carries the number of its prompt, so that rewards can be matched to prompts through workers, repeats
and processes. TRL gathers the rewards of all processes on each of them, so every process records
all rewards, and the tables are equal without an exchange.

The private names of TRL in use are listed in `_HOOKS`. Cost: one more gather of one integer per
rollout.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import torch
import trl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer
from trl.trainer.grpo_trainer import GRPOTrainer

from seta.engine import Pruner
from seta.engine.rows import Row
from seta.engine.steps import Steps, is_listed
from seta.extras import MissingExtra
from seta.integrations.transformers.arguments import check_trainer
from seta.integrations.transformers.epochs import PrunedEpochs
from seta.integrations.transformers.trainer import figures_of
from seta.integrations.trl.rollouts import (
    NUMBER,
    Generation,
    NumberedPrompts,
    RolloutArguments,
    RolloutRun,
    RolloutSampler,
    epochs_of,
)
from seta.rl.signal import FLAT, group_signal, rate_of
from seta.torch.arguments import check_dataset

__all__ = ["PrunedGRPOMixin", "PrunedGRPOTrainer"]

_HOOKS = ("_calculate_rewards", "_get_train_sampler", "_set_signature_columns_if_needed")

_missing = [name for name in _HOOKS if not hasattr(GRPOTrainer, name)]
if _missing:
    raise MissingExtra(
        "seta.integrations.trl.grpo needs TRL 1.16 or a later 1.x (1.16 is what it is tested "
        f"with): GRPOTrainer of TRL {trl.__version__} has no {', '.join(_missing)}: pip install "
        '"trl>=1.16,<2"'
    )


class PrunedGRPOMixin(PrunedEpochs):
    """Adds pruning to a GRPO trainer of your own: `class Mine(PrunedGRPOMixin, GRPOTrainer)`.

    After each epoch, `seta/kept`, `seta/kept_share`, `seta/saved` and other figures are logged.
    Checkpoints get an additional file, `seta_state.bin`. `pruner` has the history and the signals.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    pruning: RolloutArguments
    num_generations: Any
    num_iterations: Any
    reward_weights: Any
    multi_objective_aggregation: Any
    _signature_columns: Any

    def __init__(self, *args: Any, pruning: RolloutArguments, **kwargs: Any) -> None:
        if not isinstance(pruning, RolloutArguments):
            raise TypeError(
                f"pruning must be RolloutArguments, got {type(pruning).__name__}: give "
                "pruning=RolloutArguments(budget=0.6)"
            )
        self.pruning = pruning
        super().__init__(*args, **kwargs)
        if self.train_dataset is None:
            raise ValueError(
                "train_dataset must be given, got None: prompts that an environment generates have "
                "no fixed index, so nothing can be recorded for them"
            )
        check_trainer(self, pruning)
        rollouts = getattr(pruning.policy, "rollouts", self.num_generations)
        if rollouts != self.num_generations:
            raise ValueError(
                f"policy {pruning.policy!r} must count num_generations={self.num_generations} "
                f"rollouts of a prompt, got rollouts={rollouts}: make it with "
                f"rollouts={self.num_generations}"
            )

    # The sampler.

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns TRL's own loader, over numbered prompts and the selections of a new run."""
        check_trainer(self, self.pruning)
        dataset = self.train_dataset
        self._seta_next = self._new_run(dataset)
        self.train_dataset = NumberedPrompts(dataset)
        try:
            return super(PrunedEpochs, self).get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self._signature_columns is not None and NUMBER not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, NUMBER]

    def _get_train_sampler(self, dataset: Dataset[Any] | None = None) -> Sampler[int]:
        stock: Any = super(PrunedEpochs, self)._get_train_sampler(dataset)
        if self._seta_next is None or not isinstance(dataset, NumberedPrompts):
            return stock  # type: ignore[no-any-return]
        return RolloutSampler(self._seta_next.pruner, stock)

    def _new_run(self, dataset: Any) -> RolloutRun:
        args: Any = self.args
        pruning, n = self.pruning, check_dataset(dataset)
        budget = pruning.budget
        generation = Generation(
            args.generation_batch_size // self.num_generations,
            args.steps_per_generation * self.num_iterations,
            args.gradient_accumulation_steps,
        )
        if n < generation.prompts:
            raise ValueError(
                f"train_dataset must have the {generation.prompts} prompts of one generation, "
                f"generation_batch_size / num_generations, got {n}: make generation_batch_size "
                "smaller"
            )
        sizes = Steps(n, batch_size=generation.whole)
        epochs, most = ceil(args.num_train_epochs), None
        if args.max_steps > 0 and budget is not None:
            most = args.max_steps
            epochs = epochs_of(sizes, budget, generation, most)
            budget = budget[:epochs] if is_listed(budget) else budget
        elif epochs != args.num_train_epochs and budget is not None:
            *whole, last = map(generation.steps, sizes.lengths(budget, epochs))
            most = sum(whole) + ceil((args.num_train_epochs - len(whole)) * last)
        pruner = Pruner(
            n,
            pruning.policy,
            epochs=epochs,
            budget=budget,
            batch_size=sizes.batch_size,
            **pruning.of_pruner(args),
            sharding="replicated",
        )
        return RolloutRun(pruner, generation, most)

    # The rewards.

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Tensor:
        """Computes TRL's rewards, of all processes, and records them in training.

        The reward functions get the rows as they are without pruning.
        """
        numbers = [row.get(NUMBER) for row in inputs]
        rows = [{key: row[key] for key in row if key != NUMBER} for row in inputs]
        rewards: Tensor = super()._calculate_rewards(rows, *args, **kwargs)  # type: ignore[misc]
        run: Any = self._seta_run
        if run is not None and self.is_in_train and self.model.training:  # type: ignore[union-attr]
            self._record(run, numbers, rewards)
        return rewards

    def _record(self, run: RolloutRun, numbers: list[int | None], rewards: Tensor) -> None:
        """Records the rewards of a generation.

        Args:
            run: The run.
            numbers: Of the prompts of this process's rollouts.
            rewards: float32 (rollouts of all processes, reward functions), NaN = none.

        Raises:
            RuntimeError: Rows have lost their numbers, or do not come in groups.
        """
        if None in numbers:
            raise RuntimeError(
                f"a row has no {NUMBER!r}: code between the loader and the rewards makes new rows "
                "without it. Keep all keys of the rows"
            )
        local = torch.tensor(numbers, device=self.accelerator.device)
        prompts = self.accelerator.gather(local).cpu().numpy().reshape(-1, self.num_generations)
        if (prompts != prompts[:, :1]).any():
            raise RuntimeError(
                f"the {self.num_generations} rollouts of a prompt are not next to each other, "
                f"got the prompts {prompts.tolist()}: keep the order of the rows of a generation, "
                "and start all processes with the same settings"
            )
        parts = rewards.double().cpu()
        total = (parts * self.reward_weights.double().cpu()).nansum(dim=1)
        total[parts.isnan().all(dim=1)] = torch.nan
        groups = total.view(-1, self.num_generations).numpy()
        signals = group_signal(groups, right=self.pruning.right)
        if self.multi_objective_aggregation == "normalize_then_sum":
            # Each function is scaled by itself: sums that are alike may hide a gradient.
            each = [group_signal(part.view(groups.shape).numpy()) for part in parts.T]
            flat = ~np.any([signal < FLAT for signal in each], axis=0)
            signals = (rate_of(signals) + np.where(flat, FLAT, 0.0)).astype(np.float32)
        run.record(prompts[:, 0], signals)

    # The end of an epoch.

    def _end_epoch(self) -> None:
        run = self._running(self._seta_run)
        if not run.answered:
            raise RuntimeError(
                f"no rewards of epoch {run.pruner.epoch} were seen: a trainer of your own must "
                "call super()._calculate_rewards(...), with PrunedGRPOMixin as its first base class"
            )
        super()._end_epoch()

    def _log_figures(self, row: Row) -> None:
        # Past GRPOTrainer.log, which puts the averages of its metrics into whatever is logged next.
        Trainer.log(self, figures_of(row))


class PrunedGRPOTrainer(PrunedGRPOMixin, GRPOTrainer):
    """A `trl.GRPOTrainer` that generates rollouts for the prompts that a policy keeps.

    Use it like `GRPOTrainer`; `pruner` has the history and the signals. For a trainer of your own,
    see `PrunedGRPOMixin`.

    Args:
        *args: Arguments of `GRPOTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `GRPOTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """
