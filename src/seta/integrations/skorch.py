"""skorch: a net that prunes its training data, for scikit-learn's tools.

    class PrunedClassifier(PrunedNetMixin, NeuralNetClassifier):
        pass

    net = PrunedClassifier(
        Net, criterion=CrossEntropyLoss, criterion__reduction="none", max_epochs=10,
        iterator_train=PrunedDataLoader, iterator_train__policy="SeTa", iterator_train__epochs=10,
    )

skorch makes a new iterator in each `partial_fit` and each warm start. On its own, a pruned one
would begin each time with a first epoch, which knows no losses. The mixin keeps the first loader,
and refuses other data for it. It uses public methods of skorch, and imports nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from seta.engine import Pruner
from seta.torch import PrunedDataLoader

__all__ = ["PrunedNetMixin", "RunOfNet"]


class RunOfNet:
    """The loader of a net, which skorch makes when it sees the data.

    Attributes:
        loader: The loader of the training samples; None before the first epoch, and in a copy.
    """

    def __init__(self) -> None:
        self.loader: PrunedDataLoader | None = None
        self._state: dict[str, Any] = {}  # loaded, for the next training

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the loader, for skorch's `Checkpoint(f_loader=...)`."""
        return self._state if self.loader is None else self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a state for the loader, or for the one that is made next.

        Raises:
            ValueError: It is the state of another run.
        """
        if self.loader is not None:
            self.loader.load_state_dict(state, changed=["epochs"])
        self._state = state

    def keep(self, loader: PrunedDataLoader, dataset: Any, epochs: int) -> PrunedDataLoader:
        """Returns the loader of the run: the one that it has, or this one if it has none.

        Args:
            loader: What skorch has made for the data of this call.
            dataset: The training data of this call.
            epochs: How many epochs this call trains.

        Raises:
            TypeError: It is no `PrunedDataLoader`.
            ValueError: The loader or the run is over other data, or fewer epochs are left.
        """
        if not isinstance(loader, PrunedDataLoader):
            raise TypeError(
                f"iterator_train must be seta.PrunedDataLoader, got one that makes a "
                f"{type(loader).__name__}: pass iterator_train=seta.PrunedDataLoader, "
                "iterator_train__policy= and iterator_train__epochs="
            )
        if loader.pruner.n != len(dataset):
            raise ValueError(
                f"iterator_train must make a loader of the dataset that it gets, got one of "
                f"{loader.pruner.n} samples for {len(dataset)}, which trains on samples that "
                "train_split or a search keeps for validation: pass "
                "iterator_train=seta.PrunedDataLoader"
            )
        kept = loader if self.loader is None else self.loader
        if not _same(kept.dataset, loader.dataset):
            raise ValueError(
                "partial_fit and warm starts continue the run of the net, and must get the same "
                f"samples in the same order: got {loader.pruner.n} others after "
                f"{kept.pruner.n}. Call fit without warm_start for other data. A train_split "
                "that draws needs a random_state: ValidSplit(0.2, random_state=0)"
            )
        if self._state:
            kept.load_state_dict(self._state, changed=["epochs"])
        elif kept.position:  # a Ctrl-C, which ends a training of skorch without an error
            kept.end_epoch()
        if _sizes(kept) != _sizes(loader):  # other parameters of the net since
            loader.load_state_dict(kept.state_dict(), changed=["epochs"])
            kept = loader
        self.loader, self._state = kept, {}
        left = kept.epochs - kept.pruner.next_epoch
        if epochs > left:
            raise ValueError(
                f"iterator_train__epochs must be the epochs of all calls together, got "
                f"{kept.epochs}, of which {left} are left, and {epochs} to train: raise it, or "
                f"call set_params(max_epochs={left})"
            )
        return kept

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the loader: a copied or pickled net has no data either."""
        return {"loader": None, "_state": self.state_dict()}


def _sizes(loader: PrunedDataLoader) -> tuple[int, int]:
    return loader.epochs, loader.pruner.sizes.batch_size


class PrunedNetMixin:
    """Prunes the training data of a skorch net: `class Mine(PrunedNetMixin, NeuralNet)`.

    The net needs a criterion that returns one loss per sample (`criterion__reduction="none"`), and
    `iterator_train=PrunedDataLoader`, with its arguments as `iterator_train__...`. `fit` begins a
    run; `partial_fit` and, with `warm_start`, `fit` continue it.

    Attributes:
        loader_: The run, for `Checkpoint(f_loader=...)`.
    """

    loader_: RunOfNet
    max_epochs: int
    _to_train = 0  # epochs of the training under way

    @property
    def pruner_(self) -> Pruner:
        """The pruner of the run, with `history`, `losses`, `table()` and more.

        Raises:
            AttributeError: The net has not been trained, or is a copy of one that was.
        """
        loader = getattr(self, "loader_", RunOfNet()).loader
        if loader is None:
            raise AttributeError(
                "pruner_ needs a trained net, and a copied or pickled one has it only after its "
                "next training: call fit or partial_fit first"
            )
        return loader.pruner

    def initialize(self) -> Any:
        """Forgets the run, as the net forgets its weights."""
        self.loader_ = RunOfNet()
        net: Any = super()
        return net.initialize()

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Trains some epochs of the run."""
        net: Any = super()
        self._to_train = self.max_epochs if epochs is None else epochs
        try:
            return net.fit_loop(X, y, epochs=epochs, **params)
        finally:
            self._to_train = 0

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Returns the loader of the run in training, and else an iterator over all of the data.

        Raises:
            TypeError, ValueError: The loader cannot be the run's; see `RunOfNet.keep`.
        """
        net: Any = super()
        if not (training and self._to_train):  # forward(X, training=True) is no training
            return net.get_iterator(dataset, training=False)
        loader = net.get_iterator(dataset, training=True)
        return self.loader_.keep(loader, dataset, self._to_train)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Returns the loss of a batch; in training, records the losses of its samples.

        Raises:
            ValueError: The criterion returns one loss for the batch.
        """
        net: Any = super()
        losses: Tensor = net.get_loss(y_pred, y_true, X=X, training=training)
        if not training or self.loader_.loader is None:
            return losses.mean()
        if losses.ndim == 0:
            raise ValueError(
                "the criterion must return one loss per sample, got one for the batch: pass "
                'criterion__reduction="none" to the net'
            )
        return self.loader_.loader.update(losses)


def _same(one: Any, other: Any) -> bool:
    """Returns whether two datasets have the same samples in the same places."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (np.ndarray, Tensor)):
        if one.shape != other.shape:
            return False
        return bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (str, bytes, int, float)):
        return bool(one == other or (one != one and other != other))
    if isinstance(one, Subset):
        return _same(np.asarray(one.indices), np.asarray(other.indices)) and _same(
            one.dataset, other.dataset
        )
    # skorch wraps its data in a new Dataset in each call.
    return hasattr(one, "X") and _same(one.X, other.X) and _same(one.y, other.y)
