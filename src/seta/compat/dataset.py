"""What `prune` returns: the user's dataset with `.sampler`, `.update(loss)` and the counters.

It goes to the workers, so a copy of it carries the user's dataset and nothing else. Costs nothing
per row: batches come from the user's `__getitems__`, or `__getitem__`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset, get_worker_info

from seta.compat.order import Run
from seta.compat.sampler import PublishedSampler
from seta.engine import Pruner
from seta.torch.losses import per_sample


class PublishedDataset(Dataset[Any]):
    """The user's dataset with what the three lines need: made by `prune`.

    Rows come out as from the user's dataset. Other public attributes are read from it, and set on
    it where it has them (`loader.dataset.transform = ...`). A copy (pickled for a worker, deep
    copied) has the data alone.

    Attributes:
        dataset: The user's own.
    """

    _run: Run | None = None

    def __init__(self, dataset: Any, run: Run) -> None:
        self.__dict__.update(dataset=dataset, _rows=run.pruner.n, _run=run)

    def __len__(self) -> int:
        """Number of samples: N, or of `Static` int((1 - r) N)."""
        return int(self.__dict__["_rows"])

    def __getitem__(self, index: int) -> Any:
        """Returns the user's row."""
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Any:
        """Returns the user's rows of a batch, by the dataset's own `__getitems__` if it has one."""
        fetch = getattr(self.dataset, "__getitems__", None)
        rows = fetch(indices) if callable(fetch) else [self.dataset[i] for i in indices]
        if self._run is not None and self._run.epoch is not None and get_worker_info() is None:
            self._run.epoch.fetch(indices)
        return rows

    def __getattr__(self, name: str) -> Any:
        # Private and special names are never forwarded: pickle and copy ask for them on an object
        # that has no `dataset` yet.
        if not name.startswith("_") and hasattr(self.__dict__.get("dataset"), name):
            return getattr(self.dataset, name)
        raise AttributeError(f"neither the pruned dataset nor the user's has {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        own = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if own or not hasattr(self.dataset, name):
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_run"}

    @property
    def sampler(self) -> PublishedSampler:
        """The sampler for the `DataLoader`."""
        return PublishedSampler(self._running("sampler"))

    @property
    def pruner(self) -> Pruner:
        """The engine behind: losses, history. Look at it between epochs: it ends a complete one."""
        run = self._running("pruner")
        run.finish()
        return run.pruner

    def update(self, loss: torch.Tensor) -> torch.Tensor:
        """Takes the losses of the next batch.

        Args:
            loss: Floats (B,), one per sample (`reduction="none"`), or (B, ...): averaged over the
                rest. Left as it is.

        Returns:
            Scalar, sum(weight * loss) / B, to call `.backward()` on. All weights 1:
            `loss.mean()`.

        Raises:
            RuntimeError: The losses do not fit the batches given out; the epoch's are discarded.
        """
        run = self._running("update")
        values = per_sample(loss)
        weights = run.answer(values.detach())
        if weights is None or bool((weights == 1).all()):
            return values.mean()
        factors = torch.tensor(weights, dtype=values.dtype)
        return (values * factors.to(values.device, non_blocking=True)).mean()

    def get_pruned_count(self) -> int:
        """Returns the samples left out up to now, over the epochs begun."""
        return sum(self._running("get_pruned_count").left_out.values())

    def get_saved_ratio(self) -> float:
        """Returns `get_pruned_count()` / (N x all epochs of the run)."""
        run = self._running("get_saved_ratio")
        return self.get_pruned_count() / (run.total * run.pruner.epochs)

    def _running(self, what: str) -> Run:
        if self._run is None:
            raise RuntimeError(
                f"{what} is not available on a pickled or deep copy of the pruned dataset, which "
                "has the data alone: use the object that prune() returned"
            )
        return self._run
