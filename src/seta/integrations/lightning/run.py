"""One `fit`: the loader over its training data, where it stands, and what Lightning knows of it.

Lightning asks for the length of an epoch once. Here it is told anew for each: in
`fit_loop.max_batches`, `val_check_batch` and the fetcher, which is `fit_loop._data_fetcher`, the
only private name of Lightning's in use (2.6).

Of an epoch that was resumed Lightning counts the batches from its beginning, the loader from where
it goes on; `Run` knows both, also if the number of ranks is another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from seta.engine.rows import Row
from seta.torch.loader import PrunedDataLoader


class PrunedBatches:
    """The training data of a `trainer.fit`: what `SeTaCallback.loader` returns.

    Its length is that of the epoch. Before training it is the mean of the epochs, rounded up, and
    without a budget that of full training: so `trainer.estimated_stepping_batches` is the same
    whenever a run is resumed, and never too small.

    Args:
        run_of: Returns the run that this belongs to; None outside of `fit`.
        dataset: The user's own.
        options: Of the `PrunedDataLoader`.
    """

    def __init__(
        self, run_of: Callable[[PrunedBatches], Run | None], dataset: Any, options: dict[str, Any]
    ) -> None:
        self.run_of, self.dataset, self.options = run_of, dataset, options

    def __len__(self) -> int:
        """Batches of an epoch, on each rank."""
        run = self.run_of(self)
        if run is None:
            raise TypeError("training data has no length outside of trainer.fit, which lays it out")
        return run.length_of(self)

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of the open epoch, from where a run was resumed.

        A generator: Lightning makes more iterators than it uses, and they cost nothing so.
        """
        run = self.run_of(self)
        if run is None:
            raise RuntimeError(
                "pruning.loader(...) gives batches within trainer.fit, once Lightning has brought "
                "the processes together: give it to a Trainer(callbacks=[pruning])"
            )
        yield from run.walk(self)

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing, as the callback has it all; it tells Lightning that this resumes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing."""


class Run:
    """The training data of one `fit`, and the position in it.

    Args:
        trainer: Its `max_epochs` is the length of the run.
        make: Makes the loader, as soon as Lightning asks for the data.
        changed: What may differ from the run that a state was saved in.

    Attributes:
        source: What the loader was made for.
        unanswered: Whether a batch was given out and no losses came for it yet.
    """

    def __init__(
        self,
        trainer: Trainer,
        make: Callable[[PrunedBatches, Trainer], PrunedDataLoader],
        changed: set[str],
    ) -> None:
        self.trainer, self.changed = trainer, set(changed)
        self.epochs = int(trainer.max_epochs or 0)
        self.unanswered = False
        self._make = make
        self.load({"loader": None})

    # Its state.

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, for the loader that is made next; an empty one begins anew."""
        self.source: PrunedBatches | None = None
        self._loader: PrunedDataLoader | None = None
        self._saved = dict(state)
        self._epoch = 0
        self._before = self._resumed = 0  # batches and samples of the epoch, done before a resume
        self._given = 0  # batches since
        self._whole: int | None = None  # batches of the epoch that Lightning is in
        self._length = 0  # how many of them it takes

    def state(self) -> dict[str, Any]:
        """Returns all there is to go on from here; in mid-epoch all ranks have to call this."""
        if self._loader is None:
            return self._saved
        state = self._loader.state_dict()
        if state["pruner"]["open"] is None:
            return {"loader": state, "batches": 0}
        batch = self._loader.batch_size * self._ranks
        return {"loader": state, "batches": self._before + (state["done"] - self._resumed) // batch}

    def use(self, source: PrunedBatches) -> PrunedDataLoader:
        """Returns the loader over a source; a new one goes on where the last was."""
        if self._loader is None or source is not self.source:
            saved = self.state()
            loader = self._make(source, self.trainer)
            if saved["loader"] is not None:
                loader.load_state_dict(saved["loader"], changed=self.changed)
                self._before, self._resumed = saved["batches"], saved["loader"]["done"]
            self._given = 0
            self.source, self._loader = source, loader
        return self._loader

    @property
    def made(self) -> bool:
        """Whether there is a loader."""
        return self._loader is not None

    @property
    def loader(self) -> PrunedDataLoader:
        """The loader.

        Raises:
            RuntimeError: There is none yet.
        """
        if self._loader is None:
            self.trainer.fit_loop.setup_data()
        if self._loader is None:
            raise RuntimeError(
                "the training data must be pruning.loader(dataset, ...), and none was asked for: "
                "give it to trainer.fit, or return it from train_dataloader"
            )
        return self._loader

    def close(self) -> None:
        """Lets persistent workers go, as Lightning does with those of a `DataLoader`."""
        if self._loader is not None:
            self._loader._loader._iterator = None

    # Its epochs.

    def begin(self, source: PrunedBatches, epoch: int) -> None:
        """Makes an epoch the open one, and tells the trainer its length.

        Raises:
            ValueError: The pruner is elsewhere.
        """
        pruner = self.use(source).pruner
        before = self._before
        at = pruner.next_epoch if pruner.epoch is None else pruner.epoch
        over = pruner.epoch is not None and epoch == at + 1  # saved after its last batch
        if epoch != at and not over:
            raise ValueError(
                f"the trainer is in epoch {epoch}, and SeTaCallback in {at}: they begin together, "
                "or go on from one checkpoint (trainer.fit(..., ckpt_path=...))"
            )
        if over:
            self.end()
        if epoch == self.epochs:
            return
        self._epoch = epoch
        self._measure()
        if over:  # Lightning has yet to compare the batches before with the length of their epoch
            self._whole = before
        self._tell(before if over else self._length)

    def walk(self, source: PrunedBatches) -> Iterator[Any]:
        """Yields the batches of the epoch."""
        loader = self.use(source)
        if self._whole is not None:
            self._measure()
            self._tell(self._length)
        for batch in loader:
            self._given += 1
            self.unanswered = True
            yield batch

    def end(self) -> Row:
        """Ends the open epoch; of several processes all call this."""
        row = self.loader.end_epoch()
        self._epoch = int(row["epoch"]) + 1
        self._before = self._resumed = self._given = 0
        self.unanswered = False
        return row

    @property
    def progress(self) -> float:
        """The share of the run that was given out, in epochs."""
        given = self._before + self._given
        done = min(given / self._length, 1.0) if self._length else 0.0
        return (self._epoch + done) / self.epochs

    # Its lengths.

    @property
    def lengths(self) -> list[int] | None:
        """Batches of each epoch, as Lightning takes them; None where nobody knows."""
        lengths = self.loader.pruner.lengths
        return None if lengths is None else [self._limited(self._batches(n)) for n in lengths]

    @property
    def shortest(self) -> int:
        """Batches that every epoch has."""
        return 1 if self.lengths is None else min(self.lengths)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run.

        Raises:
            RuntimeError: There is no budget.
        """
        if self.lengths is None:
            raise RuntimeError(
                "total_steps is known under a budget only, since epochs vary in length without: "
                "give SeTaCallback a budget, or drive the schedule by pruning.schedule(...)"
            )
        accumulated = [self._accumulated(epoch) for epoch in range(self.epochs)]
        return sum(-(-n // a) for n, a in zip(self.lengths, accumulated, strict=True))

    def length_of(self, source: PrunedBatches) -> int:
        """Returns the length that training data shows, see `PrunedBatches`."""
        pruner = self.use(source).pruner
        if self._whole is not None:
            return self._whole
        if pruner.lengths is None:
            return self._batches(pruner.n)
        return -(-sum(map(self._batches, pruner.lengths)) // len(pruner.lengths))

    def _measure(self) -> None:
        """Finds the length of the open epoch."""
        left = (
            len(self.loader.pruner.begin_epoch()) - self._resumed
        )  # less than 0 in its last batch
        self._whole = self._before + self._batches(max(left, 0))
        self._length = self._limited(self._whole)

    @property
    def _ranks(self) -> int:
        ranks = self.loader.pruner.ranks
        return 1 if ranks is None else ranks.size

    def _batches(self, samples: int) -> int:
        """Returns the batches of each rank that so many samples make."""
        share, size = samples // self._ranks, self.loader.batch_size
        return share // size if self.loader.drop_last else -(-share // size)

    def _limited(self, batches: int) -> int:
        """Returns how many of an epoch's batches Lightning takes.

        Raises:
            ValueError: None of them.
        """
        limit = self.trainer.limit_train_batches
        limited = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if not limited:
            raise ValueError(
                f"limit_train_batches={limit} leaves none of the {batches} batches of an epoch: "
                "give a larger share, or a number of batches"
            )
        return limited

    def _accumulated(self, epoch: int) -> int:
        """Returns the batches of an optimizer step."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                return callback.get_accumulate_grad_batches(epoch)
        return self.trainer.accumulate_grad_batches

    def _tell(self, length: int) -> None:
        """Says an epoch's length wherever Lightning wrote one down."""
        trainer = self.trainer
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        fetcher.length = trainer.fit_loop.max_batches = length
        if trainer.val_check_batch is not None:  # None: validation goes by the clock
            interval = trainer.val_check_interval
            if isinstance(interval, float):
                trainer.val_check_batch = max(1, int(length * interval))
