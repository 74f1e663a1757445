"""mmengine: train loops that prune the training data, to be named in `train_cfg`.

    train_cfg = dict(type="PrunedTrainLoop", max_epochs=10, policy="SeTa", budget=0.6)

    class Net(BaseModel):
        def forward(self, inputs, labels, mode):
            if mode == "loss":
                return {"loss": update(cross_entropy(self(inputs), labels, reduction="none"))}

The loop builds the dataloader as mmengine does, and makes a `PrunedDataLoader` of it. A hook that
it registers puts the loader's state into every checkpoint. `update` finds the loop that is running.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seta.extras import require

require("seta.integrations.mmengine", "torch", "mmengine", extra="mmengine")

from mmengine.dataset import DefaultSampler, InfiniteSampler  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from mmengine.hooks import Hook  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from mmengine.registry import LOOPS  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from seta.engine import Policy, Pruner  # noqa: E402
from seta.engine.steps import Budget  # noqa: E402
from seta.torch import PrunedDataLoader  # noqa: E402

_running: list[PrunedDataLoader] = []  # the loader of the loop that runs in this process


def update(losses: Tensor, mask: Tensor | None = None, counts: Tensor | None = None) -> Tensor:
    """Records the per-sample losses of the batch that is trained, and returns its loss.

    Call it in the model's `forward(..., mode="loss")`, or in its `parse_losses`.

    Args:
        losses: Floats (B,), or (B, ...), as for `PrunedDataLoader.update`.
        mask: As there.
        counts: As there.

    Returns:
        Scalar, the weighted mean.

    Raises:
        RuntimeError: No pruned loop is running, or the batch was answered already.
        TypeError, ValueError: `losses` or another argument is invalid.
    """
    if not _running:
        raise RuntimeError(
            "update(losses) needs a train loop that prunes, and none is running: give the Runner "
            'train_cfg=dict(type="PrunedTrainLoop", max_epochs=..., policy="SeTa", budget=...); '
            "in validation, return the mean of the losses"
        )
    return _running[-1].update(losses, mask=mask, counts=counts)


@LOOPS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PrunedTrainLoop(EpochBasedTrainLoop):  # type: ignore[misc]
    """mmengine's `EpochBasedTrainLoop`, on pruned training data.

    Args:
        runner: The runner.
        dataloader: The training data: a config, or a `DataLoader`. Its sampler must take all
            samples; it is replaced.
        max_epochs: Length of the run in epochs.
        policy: The method: a name such as "SeTa", or an object such as `seta.SeTa()`.
        budget: Share of full training's sample visits that the run may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. None: the policy decides.
        pruning: Further arguments of `seta.PrunedDataLoader`, such as `seed` or `track`.
        changed: Names of arguments that may differ from those of the run that is resumed.
        **options: Further arguments of `EpochBasedTrainLoop`.

    Attributes:
        dataloader: The `PrunedDataLoader`; `dataloader.pruner` has `history`, `losses` and more.

    Raises:
        TypeError, ValueError: The training data cannot be pruned, or an argument is invalid.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_epochs: int,
        policy: Policy | str,
        budget: Budget | None,
        pruning: dict[str, Any] | None = None,
        changed: Iterable[str] = (),
        **options: Any,
    ) -> None:
        BaseLoop.__init__(self, runner, dataloader)  # builds it
        loader = _pruned(self.dataloader, policy, epochs=max_epochs, budget=budget, **pruning or {})
        super().__init__(runner, loader, max_epochs, **options)
        if loader.pruner.lengths is not None:
            self._max_iters = loader.total_batches
        runner.register_hook(_Checkpoints(loader, changed))

    @property
    def pruner(self) -> Pruner:
        """The pruner of the run."""
        return self.dataloader.pruner  # type: ignore[no-any-return]

    def run(self) -> Any:
        """Launches training."""
        return _run(super().run, self.dataloader)


@LOOPS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PrunedIterTrainLoop(IterBasedTrainLoop):  # type: ignore[misc]
    """mmengine's `IterBasedTrainLoop`, on pruned training data.

    The epochs of the data follow from `max_iters` and `budget`.

    Args:
        runner: The runner.
        dataloader: The training data, as for `PrunedTrainLoop`.
        max_iters: Length of the run in batches.
        policy: The method.
        budget: Share of full training's sample visits that an epoch may use, in (0, 1].
        pruning: Further arguments of `seta.PrunedDataLoader`.
        changed: Names of arguments that may differ from those of the run that is resumed.
        **options: Further arguments of `IterBasedTrainLoop`.

    Raises:
        TypeError, ValueError: The training data cannot be pruned, or an argument is invalid.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        policy: Policy | str,
        budget: Budget,
        pruning: dict[str, Any] | None = None,
        changed: Iterable[str] = (),
        **options: Any,
    ) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        loader = _pruned(self.dataloader, policy, steps=max_iters, budget=budget, **pruning or {})
        super().__init__(runner, loader, max_iters, **options)
        runner.register_hook(_Checkpoints(loader, changed))

    @property
    def pruner(self) -> Pruner:
        """The pruner of the run."""
        return self.dataloader.pruner  # type: ignore[no-any-return]

    @property
    def epoch(self) -> int:
        """The epoch of the data, which mmengine's hook sets in the sampler."""
        return self.dataloader.epoch  # type: ignore[no-any-return]

    def run(self) -> Any:
        """Launches training, unless a finished run was resumed."""
        if self.iter >= self.max_iters:
            return self.runner.model
        self.dataloader_iterator = _Endless(self)
        return _run(super().run, self.dataloader)


def _run(run: Any, loader: PrunedDataLoader) -> Any:
    _running.append(loader)
    try:
        return run()
    finally:
        _running.remove(loader)


class _Endless:
    """The batches of a loop's epochs, one after another.

    mmengine advances it by the iterations of a resumed run; the loader knows its place itself.
    """

    def __init__(self, loop: PrunedIterTrainLoop) -> None:
        self._loader, self._passed = loop.dataloader, loop.iter
        self._batches: Any = iter(())

    def __next__(self) -> Any:
        if self._passed:
            self._passed -= 1
            return None
        while True:
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = iter(self._loader)


class _Checkpoints(Hook):  # type: ignore[misc]
    """Saves and loads the state of a loader with the runner's checkpoints."""

    def __init__(self, loader: PrunedDataLoader, changed: Iterable[str]) -> None:
        self._loader, self._changed = loader, list(changed)
        self._found: Any = None
        self._at: int | None = None  # the iteration that the checkpoint is of

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Adds the state.

        Raises:
            RuntimeError: An epoch is open on several processes, of which one alone saves.
        """
        pruner = self._loader._pruner  # `pruner` would end the last epoch, of which mmengine is in
        if pruner.ranks is not None and pruner.epoch is not None:
            raise RuntimeError(
                "with several processes, a checkpoint can be saved between epochs only, as "
                "mmengine saves on one process and the losses of an epoch are on all: use "
                "PrunedTrainLoop with CheckpointHook(by_epoch=True)"
            )
        checkpoint["seta"] = self._loader.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keeps the state until it is known whether the run is resumed."""
        self._found = checkpoint.get("seta")
        self._at = checkpoint.get("meta", {}).get("iter")

    def before_train(self, runner: Any) -> None:
        """Resumes from the state, unless only weights were loaded.

        Raises:
            ValueError: The checkpoint has none.
        """
        found, self._found = self._found, None
        again = found is None or self._at != runner.iter  # nothing, or weights alone, were loaded
        if not runner.iter or (again and self._loader.pruner.history):
            return  # a new run, or another call of train
        if found is None:
            raise ValueError(
                "the checkpoint that is resumed has no state of a pruned run: load its weights "
                "into a new run (load_from=, resume=False), or finish that run without pruning"
            )
        self._loader.load_state_dict(found, changed=self._changed)


def _pruned(stock: Any, policy: Policy | str, **arguments: Any) -> PrunedDataLoader:
    """Returns a pruned loader with the dataset and options of the one that mmengine built."""
    if isinstance(stock, DataLoader) and stock.batch_size is not None:
        sampler: Any = stock.sampler
        if type(sampler) in (DefaultSampler, InfiniteSampler):
            stock = DataLoader(
                stock.dataset,
                batch_size=stock.batch_size,
                shuffle=sampler.shuffle,
                num_workers=stock.num_workers,
                collate_fn=stock.collate_fn,
                pin_memory=stock.pin_memory,
                drop_last=stock.drop_last,
                timeout=stock.timeout,
                worker_init_fn=stock.worker_init_fn,
                multiprocessing_context=stock.multiprocessing_context,
                prefetch_factor=stock.prefetch_factor,
                persistent_workers=stock.persistent_workers,
            )
    return PrunedDataLoader.from_loader(stock, policy, **arguments)
