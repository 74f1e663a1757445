"""The sampler for the user's own `DataLoader`: each iteration yields one epoch.

Unlike `PrunedSampler`, iterating it begins the next epoch, since the published interface has no
other call for that. Torch iterates it in the main process, so its errors are raised in the user's
`for` statement. Cost: about 100 ns per index.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from seta.compat.order import Run

_CHUNK = 1 << 16  # indices turned into Python ints at a time


class PublishedSampler(Sampler[int]):
    """Sampler that yields one epoch per iteration; `train_data.sampler` returns it.

    Iterating ends the open epoch and begins the next if any batch of it was answered; otherwise it
    yields the open epoch again. `len` is that of the open epoch, before training of the first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __len__(self) -> int:
        """Number of samples in the open epoch, or else the last."""
        return len((self._run.epoch or self._run.begin()).plan)

    def __iter__(self) -> Iterator[int]:
        run = self._run
        epoch = run.begin()
        run.left_out[epoch.number] = run.total - epoch.kept
        for start in range(0, len(epoch.plan), _CHUNK):
            for index in epoch.plan[start : start + _CHUNK].tolist():
                if run.epoch is not epoch:
                    raise RuntimeError(
                        f"the loader was iterated again while epoch {epoch.number} was being read: "
                        "losses are matched by order, so one iteration must end before the next"
                    )
                epoch.given += 1
                yield index

    def set_epoch(self, epoch: int) -> None:
        """Ends the open epoch and begins this one; has no effect if it is open already.

        Args:
            epoch: Number in 0 .. args.epochs - 1.
        """
        if self._run.epoch is None or self._run.epoch.number != epoch:
            self._run.begin(epoch)
