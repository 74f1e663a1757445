"""The dataset that `prune` returns, with `.sampler`, `.update(loss)` and counters.

It is sent to the workers, so a copy has the user's dataset and nothing else. No cost per row:
batches come from the user's `__getitems__`, or `__getitem__`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset, get_worker_info

from seta.compat.order import Run
from seta.compat.sampler import PublishedSampler
from seta.engine import Pruner
from seta.torch.dataset import rows_of
from seta.torch.losses import per_sample


class PublishedDataset(Dataset[Any]):
    """Dataset for pruned training with the published interface; made by `prune`.

    - Training: `sampler`, `update`.
    - Counters: `get_pruned_count`, `get_saved_ratio`.
    - The run: `pruner`.

    Rows are those of the user's dataset. Other public attributes are read from it, and set on it if
    it has them (`loader.dataset.transform = ...`). A copy (pickled for a worker, or deep copied)
    has only the data.

    Attributes:
        dataset: The user's dataset.
    """

    _run: Run | None = None

    def __init__(self, dataset: Any, run: Run) -> None:
        self.__dict__.update(dataset=dataset, _rows=run.pruner.n, _run=run)

    def __len__(self) -> int:
        """Number of samples: N, or int((1 - r) N) with "Static"."""
        return int(self.__dict__["_rows"])

    def __getitem__(self, index: int) -> Any:
        """Returns a row of the user's dataset."""
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Any:
        """Returns the rows of a batch, by the dataset's own `__getitems__` if it has one."""
        rows = rows_of(self.dataset, indices)
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
        """The pruner, with losses and history. Read it between epochs: it ends a complete epoch."""
        run = self._running("pruner")
        run.finish()
        return run.pruner

    def update(self, loss: torch.Tensor) -> torch.Tensor:
        """Records the per-sample losses of the next batch, and returns its loss for `backward()`.

        Args:
            loss: Floats (B,), one per sample (`reduction="none"`), or (B, ...), which is averaged
                per sample. Not modified.

        Returns:
            Scalar, sum(weight * loss) / B; `loss.mean()` if all weights are 1.

        Raises:
            RuntimeError: The number of losses does not match the batches that were given out; the
                losses of the epoch are discarded.
        """
        run = self._running("update")
        values = per_sample(loss)
        weights = run.answer(values.detach())
        if weights is None or bool((weights == 1).all()):
            return values.mean()
        factors = torch.tensor(weights, dtype=values.dtype)
        return (values * factors.to(values.device, non_blocking=True)).mean()

    def get_pruned_count(self) -> int:
        """Returns the number of samples pruned so far, over all epochs that have begun."""
        return sum(self._running("get_pruned_count").left_out.values())

    def get_saved_ratio(self) -> float:
        """Returns `get_pruned_count()` / (N x all epochs of the run)."""
        run = self._running("get_saved_ratio")
        return self.get_pruned_count() / (run.total * run.pruner.epochs)

    def _running(self, what: str) -> Run:
        if self._run is None:
            raise RuntimeError(
                f"{what} is not available on a pickled or deep copy of the pruned dataset, which "
                "has only the data: use the object that prune() returned"
            )
        return self._run
