"""`PruningCallback`: what a script and a module call, and Lightning's hooks.

It stands between Lightning and the `TrainerLoader`, which does the work. All hooks run on all
ranks, and all in one order, also those for a checkpoint; so they may communicate. Cost per batch: a
few microseconds on top of `PrunedDataLoader`.
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
from seta.torch.schedule import ProgressSchedule


class PruningCallback(Callback):
    """Prunes the training data of a Lightning run.

    It begins and ends the pruner's epochs with those of the trainer, keeps the trainer's lengths
    right, gives its loggers `seta/kept` (a count of samples), `seta/kept_share` (of the dataset)
    and `seta/saved`, and saves its state in every checkpoint (in mid-epoch the ranks exchange what
    they recorded for it; Lightning calls all of them).

    Args:
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. None: epochs vary in length, as the policy says.
        seed: Of the selections, and of the workers' augmentation.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        changed: What is meant to differ from the run whose checkpoint is resumed, as for
            `Pruner.load_state_dict`: `["epochs"]` where `max_epochs` has grown.
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
        self._fitting = False
        self._restart(None)

    @staticmethod
    def of(trainer: Trainer) -> PruningCallback:
        """Returns the trainer's own, for modules and data modules that do not hold it.

        Raises:
            ValueError: It has none, or several.
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
        """Returns the training data: for `trainer.fit`, or from a `train_dataloader`.

        Args:
            dataset: Map-style.
            **options: `batch_size`, and all other options of `seta.PrunedDataLoader`.

        Raises:
            TypeError, ValueError: An option belongs elsewhere. Others are checked as `fit` begins.
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
        """Takes a batch's losses, one per sample; returns the one for `training_step` to return.

        As `PrunedDataLoader.update`: the mean, weighted where the policy says so.

        Raises:
            RuntimeError: No batch is being trained, or it is not known which.
            TypeError, ValueError, IndexError: The losses or the indices do not fit.
        """
        loss = self._training("update(losses)").update(losses, indices, mask, counts)
        self._answered = True
        return loss

    def weights(self, indices: ArrayLike | Tensor | None = None) -> Tensor:
        """Returns the weights that `update` gives the losses of a batch; for further terms.

        As `PrunedDataLoader.weights`.

        Raises:
            RuntimeError: No batch is being trained, or it is not known which.
        """
        return self._training("weights()").weights(indices)

    def skip(self) -> None:
        """Leaves the batch out: its samples keep the losses that they had.

        A `training_step` that returns None does so by itself, under automatic optimization.

        Raises:
            RuntimeError: No batch is being trained.
        """
        self._training("skip()").skip()
        self._answered = True

    @property
    def pruner(self) -> Pruner:
        """The run's pruner, during `fit` and after it: `.history`, `.losses`, `.saved`.

        Raises:
            RuntimeError: There is none yet.
        """
        if self._loader is None:
            raise RuntimeError("there is no pruner before fit: read it in a hook, or after fit")
        return self._loader.pruner

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, exact before it starts; for `configure_optimizers`.

        Raises:
            RuntimeError: There is no budget, so nobody knows; or no `fit` has begun.
        """
        return self._training("total_steps").total_steps

    @property
    def progress(self) -> float:
        """The share of the run that has been given out, in epochs: 0 before it, 1 at its end."""
        return 0.0 if self._loader is None else self._loader.progress

    def schedule(self, scheduler: LRScheduler, *, steps: int) -> LRScheduler:
        """Returns a schedule that is as far along as the run, however many batches epochs have.

        For `configure_optimizers`, with `"interval": "step"`.

        Args:
            scheduler: Any torch schedule that is stepped without arguments, made for `steps` steps.
            steps: The step at which it has come to its end, as for `seta.ProgressSchedule`.
        """
        return DrivenSchedule(ProgressSchedule(scheduler, steps=steps, loader=self))

    # Lightning's hooks, in the order in which they come.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins a run; or goes on where the same trainer stopped, for more epochs."""
        self._fitting = stage == "fit"
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
        """Refuses to go on from a run without pruning."""
        if trainer.state.fn == TrainerFn.FITTING and self.state_key not in checkpoint["callbacks"]:
            raise ValueError(
                "ckpt_path is a checkpoint without a state of PruningCallback, of a run that did "
                "not prune: take its weights into a new run (Net.load_from_checkpoint), or finish "
                "that run as it began"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state, as soon as the data is known; only `fit` does so."""
        state = Field(upgrade(state_dict, "lightning"))
        if self._fitting:
            self._restart(state["loader"].value)

    def state_dict(self) -> dict[str, Any]:
        """Returns all there is to go on from here; in mid-epoch all ranks have to call this."""
        loader = self._saved if self._loader is None else self._loader.state_dict()
        return {"format": name_of("lightning"), "loader": loader}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the first epoch of this `fit`, or goes on in the one that was resumed."""
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
        """Refuses a training step that kept its losses to itself."""
        if not self._answered and pl_module.automatic_optimization and not outputs:
            self.skip()  # it returned None: a step left out
        answered, self._answered = self._answered, False
        if answered:
            return
        raise RuntimeError(
            f"training_step did not hand over the losses of batch {batch_idx} of epoch "
            f"{trainer.current_epoch}: return pruning.update(losses), with one loss per sample; or "
            "call pruning.skip() for a batch that is left out on purpose"
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the epoch: the one exchange between ranks."""
        row = self._training("on_train_epoch_end").end_epoch()
        # Not by `log`, which for figures that all ranks have alike wants to exchange them.
        figures = {
            "epoch": row["epoch"],
            **{f"seta/{name}": row[name] for name in ("kept", "kept_share", "saved")},
        }
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ends the run; the pruner stays, to be looked at."""
        self._fitting = False
        if self._loader is not None:
            self._loader.close()

    # How they do it.

    def _restart(self, saved: dict[str, Any] | None) -> None:
        """Has the loader made anew, to go on from a state; None: from the beginning."""
        self._saved = saved
        self._answered = False  # the batch that is trained, by update or skip
        self._source: PrunedBatches | None = None
        self._loader: TrainerLoader | None = None

    def _training(self, call: str) -> TrainerLoader:
        if self._trainer is None or not self._fitting:
            raise RuntimeError(
                f"{call} belongs into trainer.fit(module, pruning.loader(...)), and this callback "
                "has none going on. Where processes are spawned, a module finds its callback by "
                "PruningCallback.of(self.trainer)"
            )
        if self._loader is None:
            self._trainer.fit_loop.setup_data()
        if self._loader is None:
            raise RuntimeError(
                "the training data must be pruning.loader(dataset, ...), and none was asked for: "
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
