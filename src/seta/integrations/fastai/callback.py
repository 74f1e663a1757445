"""`PruningCallback`: the interface of pruning under fastai, and fastai's events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.utils.data
from fastai.callback.core import Callback  # type: ignore[import-not-found,import-untyped,unused-ignore]
from fastai.torch_core import find_bs  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from seta.engine import Policy, Pruner
from seta.engine.steps import Budget
from seta.integrations.fastai.loop import FastaiLoop
from seta.integrations.fastai.loss import PerSample
from seta.torch import Loop, PrunedDataLoader, ranks_of


class PruningCallback(Callback):  # type: ignore[misc]
    """fastai callback that prunes the training data of a `Learner`.

    Each `fit` is a run of its own, of as many epochs as it trains. It begins with the losses of
    the one before, as in `fine_tune`. `lr_find`, validation and predictions are not pruned, and
    nothing of them is recorded.

    Args:
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa", or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
        budget: Share of full training's sample visits that a fit may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. None: the policy decides.
        seed: Seed of the selections.
        **options: Further arguments of `seta.Pruner`: `always_keep`, `losses`, `strata`,
            `reorder`, `on_epoch`, `count_kept`, `track`, `threads`.
    """

    order = -5  # after TrainEvalCallback, before MixUp, gradient accumulation and mixed precision
    run_valid = False
    _stateattrs = ("_dataset", "_loop", "_saved")  # not in learn.export
    _dataset: Any = None  # of the latest fit
    _loop: Loop | None = None
    _saved: tuple[Any, Iterable[str]] | None = None
    _active = False  # whether the fit is pruned
    _fresh = False  # whether its run has not begun
    _pruning = False  # whether a pruned pass is running
    _around: tuple[bool, bool, bool, Any] | None = None  # the same, and the loss, before a fit

    def __init__(
        self, policy: Policy | str, *, budget: Budget | None = None, seed: int = 0, **options: Any
    ) -> None:
        self.policy, self.budget, self.seed, self.options = policy, budget, seed, options

    @property
    def pruner(self) -> Pruner:
        """The pruner of the latest fit, with `history`, `losses` and more.

        Raises:
            RuntimeError: No fit has begun.
        """
        return self._begun("pruner").pruner

    def state_dict(self) -> dict[str, Any]:
        """Returns the state to resume the fit from, for `torch.save`; also in mid-epoch.

        Raises:
            RuntimeError: No fit has begun.
        """
        return self._begun("state_dict()").state_dict()

    def load_state_dict(self, state: dict[str, Any], *, changed: Iterable[str] = ()) -> None:
        """Resumes from a state in the next fit, which needs `start_epoch=`.

        Args:
            state: The return value of `state_dict`.
            changed: Names of arguments that may differ, as for `Pruner.load_state_dict`.
        """
        self._saved = (state, changed)

    def _begun(self, what: str) -> Loop:
        if self._loop is None:
            raise RuntimeError(f"{what} is known once learn.fit has begun: call it later")
        return self._loop

    # fastai's events, in the order in which they come.

    def before_fit(self) -> None:
        """Looks what begins: a fit, `lr_find`, or a validation, which asks for no training."""
        learn = self.learn
        self._around = self._active, self._fresh, self._pruning, learn.loss_func
        if isinstance(learn.loss_func, PerSample):  # within a fit, or the last was interrupted
            learn.loss_func = learn.loss_func.function
        self._pruning = False
        self._active = self._fresh = not hasattr(learn, "lr_finder")

    def _begin(self) -> None:
        """Begins the run of a fit."""
        learn, self._fresh = self.learn, False
        if hasattr(learn, "distributed_trainer") or ranks_of() is not None:
            raise RuntimeError(
                "PruningCallback trains in one process, and fastai's DistributedTrainer would "
                "split its epochs again: leave distrib_ctx out, or train on several processes "
                "with seta.integrations.accelerate"
            )
        self._loop = self._made(learn.dls.train, learn.n_epoch)
        learn.loss_func = PerSample(learn.loss_func, lambda: self._pruning)

    def before_train(self) -> None:
        """Begins the epoch."""
        self._around = None
        if not self._active:
            return
        if self._fresh:
            self._begin()
        loop, learn = self._begun("training"), self.learn
        following = loop.pruner.next_epoch if loop.pruner.epoch is None else loop.pruner.epoch
        if learn.epoch < following:
            raise ValueError(
                f"PruningCallback resumes in epoch {following} and the fit in {learn.epoch}: call "
                f"fit(..., start_epoch={following}), with n_epoch of the whole run"
            )
        loop.set_epoch(learn.epoch)
        for _ in range(loop.position):  # of an epoch that is resumed: as fastai would have counted
            learn.pct_train += 1.0 / (len(loop) * learn.n_epoch)
        learn.dl = loop
        self._pruning = True

    def after_loss(self) -> None:
        """Records the losses of the batch, and trains on their weighted mean."""
        if not self._pruning:
            return
        learn = self.learn
        losses: Tensor = learn.loss_grad
        rows = find_bs(learn.yb)
        if losses.ndim and len(losses) != rows:
            losses = losses.view(rows, -1)  # of pixels or tokens: fastai's losses are flat
        learn.loss_grad = self._begun("the loss").update(losses)
        learn.loss = learn.loss_grad.clone()

    def after_cancel_batch(self) -> None:
        """Leaves a batch out that another callback cancelled before its loss."""
        if self._pruning and (loop := self._begun("the batch"))._given.unanswered:
            loop.skip()

    def after_train(self) -> None:
        """Ends the epoch, also one that was cut short."""
        if not self._pruning:
            return
        loop = self._begun("training")
        self._pruning = False
        if loop.pruner.epoch is not None and loop.position:
            loop.end_epoch()

    def after_fit(self) -> None:
        """Gives the loss function back; after a validation within a fit, to the fit."""
        learn = self.learn
        if self._around is not None:  # nothing was trained since before_fit
            self._active, self._fresh, self._pruning, learn.loss_func = self._around
            self._around = None
            return
        self._pruning = False
        if isinstance(learn.loss_func, PerSample):
            learn.loss_func = learn.loss_func.function

    def _made(self, loader: Any, epochs: int) -> Loop:
        """Returns the training data of a fit, with the losses of the one before.

        Raises:
            TypeError, ValueError: It cannot be pruned.
        """
        options = {"budget": self.budget, "seed": self.seed, **self.options}
        dataset = getattr(loader, "dataset", None)
        if self._loop is not None and self._dataset is dataset:
            options["losses"] = self._loop.pruner.losses
        self._dataset = dataset
        plain = isinstance(loader, torch.utils.data.DataLoader)
        make: Any = PrunedDataLoader.from_loader if plain else FastaiLoop
        loop: Loop = make(loader, self.policy, epochs=epochs, **options)
        if self._saved is not None:
            state, changed = self._saved
            loop.load_state_dict(state, changed=changed)
            self._saved = None
        return loop
