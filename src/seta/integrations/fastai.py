"""fastai: one callback that selects, records and ends epochs in `Learner.fit`.

    learn = vision_learner(dls, resnet34, cbs=PruningCallback("SeTa"))
    learn.fit_one_cycle(5)

During the training part of an epoch, the callback puts a `Loop` in the place of the training
`DataLoader`. fastai makes the batches as before: the loop reads from a copy of its `DataLoader`
whose samples are the pruner's and whose batches carry their indices. The loss function returns one
loss per sample there; the callback records them and puts the weighted mean in their place. All else
sees the data and the loss function as they were: validation, `get_preds`, `lr_find`.

Cost per batch: a few microseconds more than fastai's own.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from seta.extras import require

require("seta.integrations.fastai", "torch", "fastai", extra="fastai")

import torch.utils.data  # noqa: E402
from fastai.callback.core import Callback  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from fastai.data.load import DataLoader  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from fastai.layers import NoneReduce  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from fastai.torch_core import find_bs, to_device  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: E402
from torch import Tensor  # noqa: E402

from seta.engine import Policy, Pruner  # noqa: E402
from seta.engine.steps import Budget  # noqa: E402
from seta.torch import Loop, PrunedDataLoader, PrunedSampler, ranks_of  # noqa: E402
from seta.torch.arguments import order_of  # noqa: E402


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
    _stateattrs = ("_loop", "_saved")  # not in learn.export
    _loop: Loop | None = None
    _saved: tuple[Any, Iterable[str]] | None = None
    _pruning = False  # whether a pruned pass is running

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
        """Begins a run, except for `lr_find`."""
        learn = self.learn
        if isinstance(learn.loss_func, _PerSample):  # the last fit was interrupted
            learn.loss_func = learn.loss_func.function
        self._pruning = False
        self.run = not hasattr(learn, "lr_finder")  # fastai sets it again when the fit is over
        if not self.run:
            return
        if hasattr(learn, "distributed_trainer") or ranks_of() is not None:
            raise RuntimeError(
                "PruningCallback trains in one process, and fastai's DistributedTrainer would "
                "split its epochs again: leave distrib_ctx out, or train on several processes "
                "with seta.integrations.accelerate"
            )
        self._loop = self._made(learn.dls.train, learn.n_epoch)
        learn.loss_func = _PerSample(learn.loss_func, lambda: self._pruning)

    def before_train(self) -> None:
        """Begins the epoch."""
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
        learn = self.learn
        losses: Tensor = learn.loss_grad
        rows = find_bs(learn.yb)
        if losses.ndim and len(losses) != rows:
            losses = losses.view(rows, -1)  # of pixels or tokens: fastai's losses are flat
        learn.loss_grad = self._begun("the loss").update(losses)
        learn.loss = learn.loss_grad.clone()

    def after_cancel_batch(self) -> None:
        """Leaves a batch out that another callback cancelled before its loss."""
        loop = self._begun("the batch")
        if self._pruning and loop._given.unanswered:
            loop.skip()

    def after_train(self) -> None:
        """Ends the epoch, also one that was cut short."""
        loop = self._begun("training")
        self._pruning = False
        if loop.pruner.epoch is not None and loop.position:
            loop.end_epoch()

    def after_fit(self) -> None:
        """Gives the loss function back."""
        learn = self.learn
        self._pruning = False
        if isinstance(learn.loss_func, _PerSample):
            learn.loss_func = learn.loss_func.function

    def _made(self, loader: Any, epochs: int) -> Loop:
        """Returns the training data of a fit, with the losses of the one before.

        Raises:
            TypeError, ValueError: It cannot be pruned.
        """
        options = {"budget": self.budget, "seed": self.seed, **self.options}
        if self._loop is not None and self._loop.pruner.n == len(loader.dataset):
            options["losses"] = self._loop.pruner.losses
        plain = isinstance(loader, torch.utils.data.DataLoader)
        make: Any = PrunedDataLoader.from_loader if plain else FastaiLoop
        loop: Loop = make(loader, self.policy, epochs=epochs, **options)
        if self._saved is not None:
            state, changed = self._saved
            loop.load_state_dict(state, changed=changed)
            self._saved = None
        return loop


class FastaiLoop(Loop):
    """Passes over the training `DataLoader` of fastai, of which they leave samples out.

    It reads from a copy of that loader, so that the options and transforms of fastai apply.

    Args:
        loader: A fastai `DataLoader` over a map-style dataset.
        policy: The method.
        **options: Further arguments of `seta.Pruner`.

    Raises:
        TypeError, ValueError: The loader's batches are not samples of a dataset in any order.
    """

    def __init__(self, loader: Any, policy: Policy | str, **options: Any) -> None:
        _check(loader)
        reorder = order_of(bool(loader.shuffle), options.pop("reorder", None))
        pruner = Pruner(
            len(loader.dataset),
            policy,
            batch_size=loader.bs,
            drop_last=loader.drop_last,
            reorder=reorder,
            **options,
        )
        super().__init__(pruner)
        self._loader, self._order, indexed = loader, _Order(), _IndexedBatches()
        state = random.getstate()  # fastai seeds each loader from it
        self._source = loader.new(get_idxs=self._order, create_batches=indexed, device=None)
        random.setstate(state)
        self._source.after_batch = _unchanged
        indexed.loader = self._source

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch, as fastai's loader makes them."""
        loader, finish = self._loader, self._loader.after_batch
        if hasattr(finish, "split_idx"):  # as TfmdDL.before_iter sets it
            finish.split_idx = getattr(loader.dataset, "split_idx", None)
        self._order.indices = list(PrunedSampler(self._pruner))
        for packed, batch in self._source:
            if loader.pin_memory and isinstance(batch, list):
                batch = tuple(batch)  # pinning made a list of it
            yield (
                packed,
                finish(batch if loader.device is None else to_device(batch, loader.device)),
            )


def _check(loader: Any) -> None:
    if not isinstance(loader, DataLoader):
        raise TypeError(
            "dls.train must be a DataLoader of fastai or torch, got "
            f"{type(loader).__name__}: make the data with DataBlock.dataloaders or DataLoaders"
        )
    if not loader.indexed or loader.bs is None or loader.n != len(loader.dataset):
        raise ValueError(
            "dls.train must batch all samples of a dataset with a length and __getitem__, got "
            f"indexed={loader.indexed}, bs={loader.bs}, n={loader.n}"
        )
    names = ["get_idxs", "shuffle_fn", "sample", "create_batches"]
    if len(set(getattr(loader, "wgts", ()))) == 1:
        names.remove("get_idxs")  # tabular data has equal weights by default
    own = any(
        getattr(type(loader), name) is not getattr(DataLoader, name) or name in vars(loader)
        for name in names
    )
    if own:
        raise ValueError(
            f"dls.train must leave the choice of samples to the policy, and {type(loader).__name__}"
            " makes its own: use dl_type=TfmdDL (and reorder= to batch texts by length); in place "
            "of weighted_dataloaders use a policy that looks at classes (RCAP, with strata=)"
        )


class _Order:
    """The `get_idxs` of a fastai loader: the samples of the open epoch."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def __call__(self) -> list[int]:
        return self.indices


class _IndexedBatches:
    """The `create_batches` of a fastai loader: its batches, each after its packed indices.

    A sample that raises SkipItemException leaves its batch smaller; fastai would take one of the
    next batch.
    """

    loader: Any

    def __call__(self, samples: Iterable[int]) -> Iterator[tuple[bytes, Any]]:
        loader, rest = self.loader, iter(samples)
        while chosen := list(islice(rest, loader.bs)):
            items = [(index, loader.do_item(index)) for index in chosen]
            kept = [(index, item) for index, item in items if item is not None]
            if kept:
                indices = array("q", [index for index, _ in kept]).tobytes()
                yield indices, loader.do_batch([item for _, item in kept])


def _unchanged(batch: Any) -> Any:
    return batch


class _PerSample:
    """A loss function that returns one loss per element while a pruned pass is running.

    MixUp and `get_preds(with_loss=True)` set its `reduction` for a moment, as of any other.

    Args:
        function: The learner's: it has a `reduction`, or takes one as an argument.
        active: Returns whether a pruned pass is running.
    """

    def __init__(self, function: Any, active: Callable[[], bool]) -> None:
        self.function, self._active = function, active

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not self._active():
            return self.function(*arguments, **options)
        with NoneReduce(self.function) as unreduced:
            return unreduced(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("function", "_active"):
            raise AttributeError(name)
        return getattr(self.function, name)

    @property
    def reduction(self) -> str:
        """As of the learner's loss function; "none" in a pruned pass."""
        return "none" if self._active() else self.function.reduction

    @reduction.setter
    def reduction(self, value: str) -> None:
        if not self._active():
            self.function.reduction = value
