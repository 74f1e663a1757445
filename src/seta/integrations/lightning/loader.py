"""The training data as Lightning sees it, and the pruned loader behind it.

Lightning reads the length of an epoch once. Here it is set again for each epoch: in
`fit_loop.max_batches`, `val_check_batch` and the fetcher `fit_loop._data_fetcher`, the only private
name of Lightning in use (2.6).

The loader knows the position in an epoch. Lightning's own count of batches differs from it after a
resume with another number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from seta.engine import Policy
from seta.engine.rows import Row
from seta.torch.loader import PrunedDataLoader


class PrunedBatches:
    """Training data for `trainer.fit`; `PruningCallback.loader` returns it.

    It can be iterated within `trainer.fit`. Its length is that of the epoch. Before training it is
    the mean over the epochs, rounded up, and without a budget the length of full training; so
    `trainer.estimated_stepping_batches` is the same when a run is resumed, and never too small.

    Args:
        loader_of: Function that returns the pruned loader, or None outside of `fit`.
        dataset: Map-style dataset.
        options: Arguments of the loader.
    """

    def __init__(
        self,
        loader_of: Callable[[PrunedBatches], TrainerLoader | None],
        dataset: Any,
        options: dict[str, Any],
    ) -> None:
        self.loader_of, self.dataset, self.options = loader_of, dataset, options

    def __len__(self) -> int:
        """Number of batches in an epoch, on each rank."""
        loader = self.loader_of(self)
        if loader is None:
            raise TypeError(
                "training data has no length outside of trainer.fit: read it in one of its hooks"
            )
        return loader.whole

    def __iter__(self) -> Iterator[Any]:
        """Returns an iterator over the batches of the open epoch, or after a resume of its rest.

        Lightning makes more iterators than it uses: a pass begins with its first batch.
        """
        return chain.from_iterable(self._pass())

    def _pass(self) -> Iterator[Iterator[Any]]:
        loader = self.loader_of(self)
        if loader is None:
            raise RuntimeError(
                "pruning.loader(...) yields batches within trainer.fit only, after Lightning has "
                "started all processes: use it with a Trainer(callbacks=[pruning])"
            )
        batches = iter(loader)
        loader.tell()
        yield batches

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty state, as the callback has it; Lightning needs it to resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing."""


class TrainerLoader(PrunedDataLoader):
    """A `PrunedDataLoader` whose epochs are as long as its trainer takes them, and tells it so.

    Args:
        trainer: It.
        dataset: Map-style.
        policy: As for `PrunedDataLoader`.
        **arguments: All others.
    """

    def __init__(
        self, trainer: Trainer, dataset: Any, policy: Policy | str, **arguments: Any
    ) -> None:
        self._trainer, self._told = trainer, False
        self._skipped: int | None = None  # the epoch that ended before its first loss
        super().__init__(dataset, policy, **arguments)

    def begin(self) -> None:
        """Makes the trainer's epoch the open one, and tells the trainer its length.

        Raises:
            ValueError: The pruner is elsewhere.
        """
        pruner, epoch = self._pruner, self._trainer.current_epoch
        loop = self._trainer.fit_loop.epoch_loop
        counted = loop.batch_progress.current.ready if loop.restarting else 0
        over = pruner.epoch is not None and epoch == pruner.epoch + 1  # saved after its last batch
        if over:
            self.end_epoch()
        if pruner.epoch is None and self._skipped is not None and epoch == self._skipped + 1:
            self.set_epoch(epoch)
        self._skipped = None
        at = pruner.next_epoch if pruner.epoch is None else pruner.epoch
        if epoch != at:
            raise ValueError(
                f"the trainer is in epoch {epoch}, and PruningCallback in {at}: begin a new run "
                "with both, or resume both from one checkpoint (trainer.fit(..., ckpt_path=...))"
            )
        if over:  # Lightning has yet to compare what it counted with the length of that epoch
            self._tell(counted)
        elif epoch < self.epochs:
            self._tell(counted + self.walk_length())

    def end_or_skip(self) -> Row | None:
        """Ends the open epoch; returns None for one that was skipped before its first loss."""
        if self._has_begun or self._pruner.epoch is None:
            return self.end_epoch()
        self._skipped = self._pruner.epoch
        self._close()
        return None

    def tell(self) -> None:
        """Tells the trainer the length of the open epoch, of which it counted batches by now."""
        fetcher = self._trainer.fit_loop._data_fetcher
        counted = 0 if fetcher is None else fetcher.fetched
        self._tell(counted + self.walk_length())

    def _tell(self, whole: int) -> None:
        """Says wherever Lightning wrote it down how many batches an epoch has, before its limit."""
        trainer, loop = self._trainer, self._trainer.fit_loop
        loop.max_batches = length = self._limited(whole)
        if loop._data_fetcher is not None:
            loop._data_fetcher.length = length
        if trainer.val_check_batch is not None:  # None: validation goes by the clock
            interval = trainer.val_check_interval
            if isinstance(interval, float):
                trainer.val_check_batch = max(1, int(length * interval))
        self._told = True

    # Its lengths.

    @property
    def whole(self) -> int:
        """Batches that training data shows, see `PrunedBatches`; Lightning limits them itself."""
        pruner = self._pruner
        lengths = [pruner.kept] if self._told and pruner.kept else pruner.lengths or [pruner.n]
        return -(-sum(map(super()._batches_of, lengths)) // len(lengths))

    @property
    def shortest(self) -> int:
        """Batches that every epoch has."""
        return 1 if self._pruner.lengths is None else min(self._lengths("shortest"))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run.

        Raises:
            RuntimeError: There is no budget.
        """
        if self._pruner.lengths is None:
            raise RuntimeError(
                "total_steps is known under a budget only, since epochs vary in length without: "
                "give PruningCallback a budget, or drive the schedule by pruning.schedule(...)"
            )
        lengths = enumerate(self._lengths("total_steps"))
        return sum(-(-batches // self._accumulated(epoch)) for epoch, batches in lengths)

    def _batches_of(self, samples: int) -> int:
        """Returns how many batches of an epoch of so many samples the trainer takes."""
        return self._limited(super()._batches_of(samples))

    def _batches_before(self) -> int:
        pruner = self._pruner
        if not pruner.resumed and not pruner.done:
            return 0
        return super()._batches_of(pruner.kept) - self.walk_length()

    def _limited(self, batches: int) -> int:
        """Returns how many of an epoch's batches the trainer takes.

        Raises:
            ValueError: None of them.
        """
        limit = self._trainer.limit_train_batches
        limited = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if batches and not limited:
            raise ValueError(
                f"limit_train_batches={limit} leaves none of the {batches} batches of an epoch: "
                "give a larger share, or a number of batches"
            )
        return limited

    def _accumulated(self, epoch: int) -> int:
        """Returns the batches of an optimizer step."""
        for callback in self._trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                return callback.get_accumulate_grad_batches(epoch)
        return self._trainer.accumulate_grad_batches
