"""Matches losses to samples by their order, for loaders whose batches carry no indices.

The k-th update of an epoch belongs to its k-th batch: the next `len(losses)` indices of the plan.
Losses stay on their device, 4 bytes per sample of the epoch, and are recorded when the epoch ends,
if the counts add up. Without workers each batch is fetched in this process, so its size is known,
and every batch must have an update. Workers fetch ahead, so it is not known which batches the loop
has got. Then all updates but the last must have one size that divides the number of fetched
samples, and leave at most a `drop_last` remainder. Some errors cannot be detected by counts: a
loader that yields batches out of order, or one batch skipped and another answered twice.

With several processes, each gets its share of the plan. They exchange losses in the last update of
an epoch, or in `set_epoch`. An epoch without an answered batch has not begun: the next iteration
yields it again.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seta.engine import Pruner
from seta.torch.ranks import group_is_up, refuse_late_group

_LOGGER = logging.getLogger(__name__)


class Epoch:
    """One epoch: its indices, how many were given out, and the recorded losses, in order.

    Args:
        number: 0 .. epochs - 1.
        plan: Indices (M,) in training order, of this process.
        kept: Samples of the plan over all processes.
    """

    def __init__(self, number: int, plan: NDArray[Any], kept: int) -> None:
        self.number, self.plan, self.kept = number, plan, kept
        self.given = 0  # indices that the loader has pulled; workers pull ahead
        self.fetched = 0  # samples fetched in this process, none if by workers
        self.waiting: deque[int] = deque()  # of those: sizes of the batches not yet answered
        self.answered = 0  # samples whose losses came back
        self.batch = 0  # size of the first update
        self.closed = False
        self.discarded = ""  # why
        self._losses: torch.Tensor | None = None

    def fetch(self, indices: list[int]) -> None:
        """Notes a batch that was fetched in this process, if the sampler has just given it out."""
        stop = self.fetched + len(indices)
        if stop == self.given and self.plan[self.fetched : stop].tolist() == list(indices):
            self.waiting.append(len(indices))
            self.fetched = stop

    @property
    def unanswered(self) -> bool:
        """Whether there may be batches left to give out, and none was answered."""
        return not self.discarded and not self.answered and self.given < len(self.plan)

    def answer(self, losses: torch.Tensor) -> NDArray[Any]:
        """Records the losses (B,) of the next batch, and returns its samples."""
        start, stop = self.answered, self.answered + len(losses)
        wrong = self._misfit(len(losses))
        if wrong:
            raise self.discard(f"update() got {len(losses)} losses, {wrong}")
        if self._losses is None:
            self._losses = torch.empty(len(self.plan), dtype=torch.float32, device=losses.device)
        self._losses[start:stop].copy_(losses)
        self.batch, self.answered = self.batch or len(losses), stop
        if self.fetched:
            self.waiting.popleft()
        return self.plan[start:stop]

    def _misfit(self, size: int) -> str:
        """Returns what is wrong with an update of this size, if anything."""
        end, stop, batch = len(self.plan), self.answered + size, self.batch or size
        if self.fetched and not self.waiting:
            return "but every batch given out has been answered"
        if self.fetched and size != self.waiting[0]:
            return f"but the batch has {self.waiting[0]} samples"
        if self.fetched:
            return ""
        if stop > end:
            return f"but {end - self.answered} of the plan's {end} samples are left to answer"
        if stop > self.given:
            return f"but only {self.given - self.answered} fetched samples have no loss yet"
        if size > batch or (size < batch and stop < end):
            return f"the update before it {batch}: only the last batch of an epoch may be smaller"
        if self.given < end and self.given % batch:
            return f"which does not divide the {self.given} samples given out in whole batches"
        return ""

    def complete(self, largest: int) -> bool:
        """Whether every batch given out was answered, for all that is known.

        Args:
            largest: Update of earlier epochs. A plan shorter than it may give no batch at all.
        """
        if self.fetched:
            return not self.waiting
        tail = len(self.plan) - self.answered < (self.batch or largest)  # of `drop_last`
        return self.answered == self.given or (self.given == len(self.plan) and tail)

    def take_losses(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the samples answered, and their losses, and closes the epoch."""
        losses, self._losses, self.closed = self._losses, None, True
        if losses is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        return self.plan[: self.answered].astype(np.int64), losses[: self.answered].cpu().numpy()

    def discard(self, reason: str) -> RuntimeError:
        """Drops the epoch's losses; returns the error to raise."""
        self.discarded, self._losses = reason, None
        return RuntimeError(
            f"epoch {self.number}: {reason}. Losses are matched to batches by order, one update() "
            "per batch, so this epoch's were discarded; the next iteration begins the next epoch. "
            "seta.PrunedDataLoader can skip a batch (skip()) or take losses of a part of it "
            "(update(losses, indices=...))"
        )


class Run:
    """The pruner, the open epoch, and the counters. Stays in the main process.

    Args:
        pruner: Over the rows that can be chosen.
        total: Samples of the user's dataset.
        longest: Most samples that an epoch may have.

    Attributes:
        left_out: How many samples each epoch begun leaves out, by its number.
    """

    def __init__(self, pruner: Pruner, total: int, longest: int) -> None:
        self.pruner, self.total, self.longest = pruner, total, longest
        self.epoch: Epoch | None = None
        self.left_out: dict[int, int] = {}
        self.largest = 0  # batch seen in any epoch
        self._warned = False
        self.made_alone = not group_is_up()

    def begin(self, number: int | None = None) -> Epoch:
        """Ends the open epoch, if any of it was trained, and begins one, the next unless told.

        Returns:
            The epoch begun; unless told, the open one again if none of it was answered.
        """
        pruner = self.pruner
        if pruner.ranks is None and self.made_alone:
            refuse_late_group("prune()")
        if self.epoch is not None and self.epoch.unanswered:
            if None not in (number, pruner.epoch) and number != pruner.epoch:
                self.left_out.pop(self.epoch.number, None)
                pruner.forget_epoch()
        elif number is None and pruner.ranks is not None and self._is_open():
            raise RuntimeError(
                f"epoch {pruner.epoch} is not over: call train_data.sampler.set_epoch(epoch) on "
                "every rank before it iterates the loader, as for a DistributedSampler; ranks "
                "exchange losses there after a `break` or with drop_last"
            )
        else:
            self.close()
        if number is None:
            number = pruner.next_epoch if pruner.epoch is None else pruner.epoch
        if number >= pruner.epochs:
            raise ValueError(
                f"args.epochs={pruner.epochs}, so epochs 0 to {pruner.epochs - 1} can be trained, "
                f"but epoch {number} was asked for: give prune() the number of epochs that you "
                "iterate the loader (every iteration of it counts as one)"
            )
        pruner.begin_epoch(number)
        plan = pruner.share()[: self.longest // pruner.sizes.ranks]
        kept = min(self.longest, pruner.kept)
        self.epoch = Epoch(number, plan, kept)
        _LOGGER.info("epoch %d of %d: %d of %d samples", number, pruner.epochs, kept, self.total)
        return self.epoch

    def _is_open(self) -> bool:
        return self.epoch is not None and not self.epoch.closed and bool(self.epoch.given)

    def close(self) -> None:
        """Ends the open epoch, if anything of it was given out: its losses reach the table."""
        epoch = self.epoch
        if epoch is None or not self._is_open():
            return
        if not epoch.discarded and not epoch.complete(self.largest):
            raise epoch.discard(
                f"the loader fetched {epoch.given} samples, update() got losses of "
                f"{epoch.answered}: it was not called for each batch (`continue`, or a batch was "
                "only read), the loop was left early (`break`) with workers fetching ahead, or, "
                "with several processes, other code splits the batches again (accelerator.prepare)"
            )
        self.pruner.record(*epoch.take_losses())
        self.pruner.end_epoch()
        last = epoch.answered % (epoch.batch or 1)
        if last and epoch.kept < self.pruner.n and not self._warned:
            self._warned = True
            _LOGGER.warning(
                "epoch %d ended in a batch of %d, and others have %d: it takes as large a step as "
                "they do, which costs accuracy; set args.batch_size to that of the DataLoader, or "
                "give it drop_last=True",
                epoch.number, last, epoch.batch,
            )  # fmt: skip

    def finish(self) -> None:
        """Ends the open epoch if its plan was given out whole, and every batch answered.

        With ranks it is left to `answer` and `set_epoch`, which all of them call.
        """
        epoch = self.epoch
        if (
            self.pruner.ranks is not None
            or epoch is None
            or epoch.discarded
            or epoch.given < len(epoch.plan)
        ):
            return
        if epoch.complete(self.largest):
            self.close()

    def answer(self, losses: torch.Tensor) -> NDArray[np.float32] | None:
        """Records the losses (B,) of the next batch; returns its weights, float32 (B,) or None."""
        epoch = self.epoch
        if epoch is None or not epoch.given:
            raise RuntimeError(
                "update() was called before a batch was taken: "
                "use DataLoader(train_data, sampler=train_data.sampler, ...)"
            )
        if epoch.discarded:
            raise RuntimeError(f"epoch {epoch.number} is over, discarded: {epoch.discarded}")
        if epoch.closed:
            raise RuntimeError(
                f"epoch {epoch.number} is over: all its losses have been given, or "
                "train_data.pruner was read before its last update"
            )
        weights = self.pruner.weights_of(epoch.answer(losses))
        self.largest = max(self.largest, epoch.batch)
        if self.pruner.ranks is not None and epoch.answered == len(epoch.plan):
            self.close()
        return weights
