"""The sampler for the user's own `DataLoader`: one epoch's plan per iteration.

It advances, unlike the samplers for frameworks, because the published interface has nothing else
that could. Torch iterates it in the main process, so its errors surface in the user's `for` line.
Costs some 100 ns per index.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from seta.compat.order import Run

_CHUNK = 1 << 16  # indices turned into Python ints at a time


class PublishedSampler(Sampler[int]):
    """Gives out the plan of one epoch per iteration; made by `train_data.sampler`.

    Iterating ends the open epoch and begins the next if any batch of it was answered; otherwise it
    gives out the open one again. `len` is the open epoch's, the first one's before training.
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
        """Ends the open epoch and begins this one; nothing if it is the open one.

        Args:
            epoch: 0 .. args.epochs - 1.
        """
        if self._run.epoch is None or self._run.epoch.number != epoch:
            self._run.begin(epoch)
