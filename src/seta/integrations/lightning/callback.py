"""`PruningCallback`: the interface of pruning under Lightning, and Lightning's hooks.

It connects Lightning to the `TrainerLoader`, which does the work. All hooks run on all ranks in the
same order, also those for a checkpoint, so they may communicate. Cost per batch: a few microseconds
more than `PrunedDataLoader`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import ArrayLike
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from seta.engine import Policy, Pruner
from seta.engine.rows import Row
from seta.engine.state.fields import Field
from seta.engine.state.formats import name_of, upgrade
from seta.engine.steps import Budget
from seta.integrations.lightning import checks
from seta.integrations.lightning.loader import PrunedBatches, TrainerLoader
from seta.integrations.lightning.schedule import DrivenSchedule
from seta.torch.eager import eager
from seta.torch.losses import per_sample, weighted_mean
from seta.torch.schedule import ProgressSchedule


class PruningCallback(Callback):
    """Lightning callback that prunes the training data of a run.

    Pass it to `Trainer(callbacks=[pruning])`, pass `pruning.loader(dataset, ...)` to `trainer.fit`,
    and return `pruning.update(losses)` from `training_step`.

    - In the module: `update`, `weights`, `skip`, `total_steps`, `schedule`, `of`.
    - Training data: `loader`.
    - The run: `pruner`, `progress`.

    The callback begins and ends the pruner's epochs with those of the trainer, sets the trainer's
    epoch lengths, and logs `seta/kept` (number of samples), `seta/kept_share` (share of the
    dataset) and `seta/saved`. Its state is part of every checkpoint.

    Args:
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa" (with default
            arguments, or under a budget with those for it), or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
        budget: Share of full training's sample visits that the run may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. It fixes the length of every epoch in
            advance, so that `total_steps` is exact. None: the policy decides, and lengths vary.
        seed: Seed of the selections and of the workers' random states.
        on_epoch: Function, or several, called with each epoch's row when the epoch ends.
        changed: Names of arguments that may differ from those of the run whose checkpoint is
            resumed, as for `Pruner.load_state_dict`: `["epochs"]` if `max_epochs` has grown.
    """

    def __init__(
        self,
        policy: Policy | str,
        *,
        budget: Budget | None,
        seed: int = 0,
        on_epoch: Callable[[Row], object] | Iterable[Callable[[Row], object]] | None = None,
        changed: Iterable[str] = (),
    ) -> None:
        self.policy, self.budget, self.seed = policy, budget, seed
        self.on_epoch, self.changed = on_epoch, set(changed)
        self._trainer: Trainer | None = None  # of the latest fit
        self._running: Trainer | None = None  # of what runs now: a fit, a validation, a test
        self._fitting = False
        self._restart(None)

    @staticmethod
    def of(trainer: Trainer) -> PruningCallback:
        """Returns the `PruningCallback` of a trainer, for modules without a reference to it.

        Raises:
            ValueError: The trainer has none, or several.
        """
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        found = [callback for callback in callbacks if isinstance(callback, PruningCallback)]
        if len(found) != 1:
            raise ValueError(
                f"callbacks must have one PruningCallback, got {len(found)}: give "
                'Trainer(callbacks=[PruningCallback("SeTa", budget=0.6)])'
            )
        return found[0]

    def loader(self, dataset: Any, **options: Any) -> PrunedBatches:
        """Returns the training data, to be passed to `trainer.fit` or returned by a module.

        Args:
            dataset: Map-style dataset.
            **options: `batch_size` and all other arguments of `seta.PrunedDataLoader`, except those
                of the callback and the trainer.

        Raises:
            TypeError, ValueError: An option belongs elsewhere. All others are checked by `fit`.
        """
        checks.check_options(options)
        return PrunedBatches(self._loader_of, dataset, options)

    @eager
    def update(
        self,
        losses: Tensor,
        indices: ArrayLike | Tensor | None = None,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Records the per-sample losses of a batch, and returns the loss for `training_step`.

        Arguments and result are those of `PrunedDataLoader.update`. In validation and testing,
        within `fit` or by themselves, it records nothing, and returns the mean.

        Raises:
            RuntimeError: No batch is being trained, or more than one is unanswered.
            TypeError, ValueError, IndexError: `losses` or another argument is invalid.
        """
        if self._running is not None and self._running.evaluating:
            return weighted_mean(per_sample(losses, mask), None, counts)
        loss = self._training("update(losses)").update(losses, indices, mask, counts)
        self._answered = True
        return loss

    def weights(self, indices: ArrayLike | Tensor | None = None) -> Tensor:
        """Returns the loss weights of a batch, to weight further terms of the loss.

        See `PrunedDataLoader.weights`.

        Raises:
            RuntimeError: No batch is being trained, or more than one is unanswered.
        """
        return self._training("weights()").weights(indices)

    def skip(self) -> None:
        """Skips the current batch: its samples keep their earlier losses.

        Under automatic optimization, a `training_step` that returns None skips it, too.

        Raises:
            RuntimeError: No batch is being trained.
        """
        self._training("skip()").skip()
        self._answered = True

    @property
    def pruner(self) -> Pruner:
        """The pruner of the run, during and after `fit`, with `history`, `losses` and more.

        Raises:
            RuntimeError: No `fit` has begun.
        """
        if self._loader is None:
            raise RuntimeError("there is no pruner before fit: read it in a hook, or after fit")
        return self._loader._pruner  # Lightning ends all epochs, so reading it ends none

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, known before it starts; for `configure_optimizers`.

        Raises:
            RuntimeError: There is no budget, so the number is not known; or no `fit` has begun.
        """
        return self._training("total_steps").total_steps

    @property
    def progress(self) -> float:
        """Share of the run that is done, by epochs and batches: 0 at the start, 1 at the end."""
        return 0.0 if self._loader is None else self._loader.progress

    def schedule(self, scheduler: LRScheduler, *, steps: int) -> LRScheduler:
        """Returns a learning-rate schedule that is driven by the progress of the run.

        For `configure_optimizers`, with `"interval": "step"`.

        Args:
            scheduler: A torch schedule that is stepped without arguments, made for `steps` steps.
            steps: The step at which it ends, as for `seta.ProgressSchedule`.
        """
        return DrivenSchedule(ProgressSchedule(scheduler, steps=steps, loader=self))

    # Lightning's hooks, in the order in which they come.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins a run, or continues that of the same trainer for more epochs."""
        self._running, self._fitting = trainer, stage == "fit"
        if not self._fitting:
            return
        PruningCallback.of(trainer)
        checks.check_trainer(trainer)
        saved, self._may_differ = None, set(self.changed)
        if self._trainer is trainer and trainer.current_epoch > 0:
            saved = self.state_dict()["loader"]
            self._may_differ.add("epochs")
        self._trainer, self._epochs = trainer, int(trainer.max_epochs or 0)
        self._restart(saved)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuses to resume a run without pruning."""
        if trainer.state.fn == TrainerFn.FITTING and self.state_key not in checkpoint["callbacks"]:
            raise ValueError(
                "ckpt_path is a checkpoint without a state of PruningCallback, from a run without "
                "pruning: load its weights into a new run (Net.load_from_checkpoint), or finish "
                "that run without pruning"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from a state as soon as the data is known; only in `fit`."""
        state = Field(upgrade(state_dict, "lightning"))
        if self._fitting:
            self._restart(state["loader"].value)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state to resume from; within an epoch all ranks must call it."""
        loader = self._saved if self._loader is None else self._loader.state_dict()
        return {"format": name_of("lightning"), "loader": loader}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the first epoch of this `fit`, or continues the one that was resumed."""
        loader = self._loader_in(trainer)
        checks.check_epochs(trainer, loader.epochs)
        estimated = trainer.estimated_stepping_batches
        loader.begin()
        checks.check_validation(trainer, loader.shortest)
        checks.check_schedules(trainer, estimated, loader)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the epoch."""
        self._loader_in(trainer).begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refuses a training step that did not pass on its losses."""
        if not self._answered and pl_module.automatic_optimization and not outputs:
            self.skip()  # it returned None: a step left out
        answered, self._answered = self._answered, False
        if answered:
            return
        raise RuntimeError(
            f"training_step did not hand over the losses of batch {batch_idx} of epoch "
            f"{trainer.current_epoch}: return pruning.update(losses), with one loss per sample; or "
            "call pruning.skip() for a batch that is left out"
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the epoch: the one exchange between ranks."""
        row = self._training("on_train_epoch_end").end_or_skip()
        if row is None:
            return
        # Not by `log`, which for figures that all ranks have alike wants to exchange them.
        figures = {
            "epoch": row["epoch"],
            **{f"seta/{name}": row[name] for name in ("kept", "kept_share", "saved")},
        }
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ends the run; `pruner` stays available."""
        self._running, self._fitting = None, False
        if self._loader is not None:
            self._loader.close()

    # How they do it.

    def _restart(self, saved: dict[str, Any] | None) -> None:
        """Discards the loader; the next is made from a state, or None: from the beginning."""
        self._saved = saved
        self._answered = False  # the batch that is trained, by update or skip
        self._source: PrunedBatches | None = None
        self._loader: TrainerLoader | None = None

    def _training(self, call: str) -> TrainerLoader:
        if self._trainer is None or not self._fitting:
            raise RuntimeError(
                f"{call} works within trainer.fit(module, pruning.loader(...)), and no fit of this "
                "callback is running. If processes are spawned, a module gets its callback by "
                "PruningCallback.of(self.trainer)"
            )
        if self._loader is None:
            self._trainer.fit_loop.setup_data()
        if self._loader is None:
            raise RuntimeError(
                "the training data must be pruning.loader(dataset, ...), and it was not used: "
                "give it to trainer.fit, or return it from train_dataloader"
            )
        return self._loader

    def _loader_in(self, trainer: Trainer) -> TrainerLoader:
        """Returns the loader behind a trainer's data.

        Raises:
            TypeError: It is other data.
        """
        source: Any = trainer.train_dataloader
        own = isinstance(source, PrunedBatches) and source.loader_of == self._loader_of
        loader = self._loader_of(source) if own else None
        if loader is None:
            raise TypeError(
                "the training data must be pruning.loader(dataset, ...) of this trainer's callback "
                f"and nothing else, got {type(source).__name__}: give that to trainer.fit, or "
                "return it from train_dataloader"
            )
        return loader

    def _loader_of(self, source: PrunedBatches) -> TrainerLoader | None:
        """Returns the loader behind training data; for other data a new one, where the last was."""
        if source is not self._source and self._fitting and self._trainer is not None:
            saved = self.state_dict()["loader"]
            self._loader = self._make(source, self._trainer)
            if saved is not None:
                self._loader.load_state_dict(saved, changed=self._may_differ)
            self._source = source
        return self._loader if source is self._source else None

    def _make(self, source: PrunedBatches, trainer: Trainer) -> TrainerLoader:
        own: dict[str, Any] = {"sharding": "replicated"}
        strategy = trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            own["process_group"] = strategy.device_mesh["data_parallel"]
        return TrainerLoader(
            trainer,
            source.dataset,
            self.policy,
            epochs=self._epochs,
            seed=self.seed,
            budget=self.budget,
            on_epoch=self.on_epoch,
            **{**own, **source.options},
        )
