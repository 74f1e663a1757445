"""The epochs of a pruned `Trainer`: its loader, their true lengths, the schedule, and resuming.

`Trainer` reads a loader's length once and takes all epochs for that long, and a checkpoint's place
for its step modulo that length. Here each epoch is run with its own number of steps, and the place
is part of the state, one more file in each checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments

from seta.engine import Pruner
from seta.engine.arguments import Reorder
from seta.engine.files.file import load, save
from seta.engine.rows import Row
from seta.engine.steps import Steps
from seta.integrations.transformers.arguments import PruningArguments, check_trainer
from seta.integrations.transformers.batches import IndexedBatch, by_length, unchanged
from seta.integrations.transformers.run import Run, length_of
from seta.torch.arguments import check_dataset
from seta.torch.dataset import IndexedDataset, WorkerInit
from seta.torch.ranks import ranks_of
from seta.torch.sampler import PrunedSampler

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

STATE_NAME = "seta_state.bin"


class Plan(PrunedSampler):
    """The whole selection of the open epoch, in every process."""

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: a loader that is only inspected has another number of epochs."""


class _Unpadded(IndexedDataset):
    """A dataset whose last batches Accelerate does not take for padded.

    It cuts off what is gathered from the last batch of a loader at the remainder of this length
    (`gather_for_metrics`). Here the batches of an epoch are not those of the whole dataset, and no
    process repeats a sample.
    """

    total_dataset_length = 0


class PrunedEpochs(_Base):
    """The part of `PrunedTrainerMixin` that plans, saves and resumes."""

    train_dataset: Any
    data_collator: Any
    pruning: PruningArguments
    _seta_run: Run | None = None
    _seta_next: Run | None = None  # of the loader that was made last

    @property
    def pruner(self) -> Pruner:
        """The pruner of the current or last run, with `history`, `losses`, `table()` and more.

        Raises:
            RuntimeError: No `train` has begun.
        """
        if self._seta_run is None:
            raise RuntimeError("there is no pruner before the first train(): call it first")
        return self._seta_run.pruner

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns `Trainer`'s own loader, over the selections of a new run."""
        check_trainer(self, self.pruning)
        if self.train_dataset is None:
            return super().get_train_dataloader()
        dataset, collator = self.train_dataset, self.data_collator
        self._seta_next = self._new_run(dataset)
        rows, strip = dataset, unchanged
        if _is_table(dataset):
            rows = self._remove_unused_columns(dataset, description="training")
        else:
            strip = self._get_collator_with_removed_columns(unchanged, description="training")
        self.train_dataset = _Unpadded(rows)
        self.data_collator = IndexedBatch(collator, self.pruning.index_key, strip)
        try:
            loader = self._stock_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = dataset, collator
        loader.base_dataloader.worker_init_fn = WorkerInit(loader.worker_init_fn)
        return loader  # type: ignore[no-any-return]

    def _stock_train_dataloader(self) -> Any:
        """Returns the trainer's own loader over `train_dataset`, as it is now."""
        return super().get_train_dataloader()

    def _get_collator_with_removed_columns(
        self, data_collator: Callable[..., Any], description: str | None = None
    ) -> Callable[..., Any]:
        if isinstance(data_collator, IndexedBatch):
            return data_collator  # they are removed inside
        return super()._get_collator_with_removed_columns(data_collator, description)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        if self._seta_next is None or not isinstance(train_dataset, IndexedDataset):
            return super()._get_train_sampler(train_dataset)
        return Plan(self._seta_next.pruner, share=False)

    def _new_run(self, dataset: Any) -> Run:
        args, pruning = self.args, self.pruning
        accumulation = args.gradient_accumulation_steps
        sizes = Steps(
            check_dataset(dataset),
            batch_size=self._train_batch_size * accumulation,
            ranks=args.world_size,
            # Accelerate would fill up a remainder with samples that were trained already.
            drop_last=args.dataloader_drop_last or args.world_size > 1,
        )
        if not sizes.most:
            raise ValueError(
                "train_dataset must have the samples of one optimizer step, on several processes "
                f"and with dataloader_drop_last, got {sizes.n} for processes x "
                "per_device_train_batch_size x gradient_accumulation_steps = "
                f"{sizes.global_batch}: make one of them smaller"
            )
        pruner = Pruner(
            sizes.n,
            pruning.policy,
            **length_of(args, pruning.budget, sizes),
            budget=pruning.budget,
            batch_size=sizes.batch_size,
            drop_last=sizes.drop_last,
            reorder=self._order_of(dataset, sizes.global_batch),
            **pruning.of_pruner(args),
            ranks=ranks_of(None),
            sharding="replicated",
        )
        return Run(pruner, accumulation)

    def _order_of(self, dataset: Any, group: int) -> Reorder | None:
        """Returns what `train_sampling_strategy` makes of an epoch's order."""
        strategy = self.args.train_sampling_strategy
        if strategy == "sequential":
            return np.sort
        if strategy == "group_by_length":
            sampler: Any = super()._get_train_sampler(dataset)
            return by_length(sampler.lengths, group)
        return self.pruning.reorder

    # The lengths of epochs, and resuming.

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: DataLoader[Any]
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """Returns `Trainer`'s values, with the true numbers of epochs, steps and samples."""
        self._seta_run = run = self._running(self._seta_next)
        values = super().set_initial_training_values(args, dataloader)
        samples, batches = run.samples(0), run.batches(0)
        if len(dataloader) != batches:
            raise RuntimeError(
                f"the training loader has {len(dataloader)} batches of {samples} samples, "
                f"and {batches} are due: other code cuts or shards it. get_train_dataloader of a "
                "subclass must return what super() returns"
            )
        epochs = run.pruner.epochs
        return (epochs, run.steps(0), values[2], run.visits, values[4], batches, run.total)

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        position = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None or not self.state.global_step:
            return position
        path = os.path.join(resume_from_checkpoint, STATE_NAME)
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"{path} is missing: the checkpoint was saved by another trainer, or with "
                "save_only_model=True, so that the run cannot go on from it. Load the model from "
                "it and begin a new run, with PruningArguments(losses=...) where its losses are "
                "at hand"
            )
        run = self._running(self._seta_run)
        position = run.load_state_dict(load(path), self.state.global_step, self.pruning.changed)
        self.state.max_steps = run.total
        return position

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves the state of the run too, after the folder of the checkpoint was made."""
        super()._save_rng_state(output_dir)
        run = self._seta_run
        if run is None or not self.is_in_train:
            return
        if run.complete(self.state.global_step):
            self._end_epoch()
        state = run.state_dict(self.state.global_step)
        if self.args.should_save:
            save(state, os.path.join(output_dir, STATE_NAME))

    def _run_epoch(self, *args: Any, **given: Any) -> None:
        """Runs an epoch with its true number of steps."""
        run, epoch = self._running(self._seta_run), int(given["epoch"])
        run.pruner.begin_epoch(epoch)
        self.state.max_steps = run.total
        given["steps_in_epoch"] = run.batches(epoch)
        given["num_update_steps_per_epoch"] = run.steps(epoch)
        super()._run_epoch(*args, **given)  # type: ignore[no-untyped-call]
        if run.pruner.epoch == epoch:  # else it ended with its last checkpoint
            self._end_epoch()

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        visits = self._running(self._seta_run).visits
        return super()._finalize_training(  # type: ignore[no-untyped-call]
            trial, visits, start_time
        )

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LRScheduler:
        """Creates `Trainer`'s schedule for the true number of steps.

        Raises:
            ValueError: Without a budget, for a schedule that counts steps and is no `LambdaLR`.
        """
        run = self._seta_run
        if run is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if run.pruner.lengths is not None:
            return super().create_scheduler(run.total, optimizer)
        given = " given in optimizers=" if self.lr_scheduler is not None else ""
        scheduler = super().create_scheduler(run.full * run.pruner.epochs, optimizer)
        by_metric = (
            isinstance(scheduler, ReduceLROnPlateau) or type(scheduler).__name__ == "GreedyLR"
        )
        if isinstance(scheduler, LambdaLR) and not given:
            scheduler.lr_lambdas = [run.stretch(part) for part in scheduler.lr_lambdas]
        elif not by_metric:
            raise ValueError(
                f"budget=None does not go with {type(scheduler).__name__}{given}: it counts steps, "
                "whose number is not known then. Give budget=, or one of Trainer's own "
                "lr_scheduler_type"
            )
        return scheduler

    def _end_epoch(self) -> None:
        self._log_figures(self._running(self._seta_run).end_epoch(self.state.global_step))

    def _log_figures(self, row: Row) -> None:
        """Logs the figures of an epoch that has ended."""
        raise NotImplementedError

    def _running(self, run: Run | None) -> Run:
        if run is None:
            raise RuntimeError(
                "the training loader was not made by PrunedTrainerMixin: get_train_dataloader of a "
                "subclass must call super()"
            )
        return run


def _is_table(dataset: Any) -> bool:
    """Whether it is a `datasets.Dataset`, whose columns can be removed."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(dataset, datasets.Dataset)
