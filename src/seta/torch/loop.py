"""What stands between a training loop and its `Pruner`: passes over epochs, and their losses.

    for batch in loop:                  a Pass, over what the framework's own loader gives out
        loss = loop.update(losses)      samples of the batch -> weights, LossBuffer -> Pruner

`PrunedDataLoader` and the loaders of the integrations are this, and add what is particular to their
framework: `walk`, the batches of the open epoch, each after its samples. It alone decides where
an epoch ends: in `__iter__`, `set_epoch`, `end_epoch`, and when a pass came to its end.

An epoch of which no batch was answered has not begun: the next pass walks through it again.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from seta.engine import Pruner
from seta.engine.arguments import integer
from seta.engine.rows import Row
from seta.engine.shown import html_of_run
from seta.engine.state.formats import name_of
from seta.engine.state.parts import upgraded
from seta.torch.arguments import sample_indices
from seta.torch.buffer import LossBuffer
from seta.torch.dataset import indices_of
from seta.torch.eager import eager
from seta.torch.given import Given, Indices
from seta.torch.losses import per_sample, weighted_mean
from seta.torch.state import with_arrays, with_tensors

logger = logging.getLogger(__name__)


class Loop(ABC):
    """A loader that is answered: each pass over it is one epoch of its pruner.

    Args:
        pruner: Chooses the samples.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,).
        accumulation: Batches of one optimizer step, for `total_steps`.
    """

    in_order: bool = True
    _kind = "loader"  # of its states, see `formats`

    def __init__(
        self, pruner: Pruner, *, with_indices: bool = False, accumulation: int = 1
    ) -> None:
        self._pruner = pruner
        self._buffer = LossBuffer(pruner)
        self._with_indices = with_indices
        self._accumulation = integer(
            "accumulation", accumulation, 1, "the batches of one optimizer step"
        )
        self._latest = Given(None)  # of the latest pass
        self._again = False  # set_epoch has named the open epoch: the next pass walks it

    def __repr__(self) -> str:
        batch = self._pruner.sizes.batch_size
        return f"{type(self).__name__}(batches of {batch}, {self._pruner!r})"

    def _repr_html_(self) -> str:
        return html_of_run(repr(self), self._pruner.history)

    # What a subclass says, and what it may.

    @abstractmethod
    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns this process's batches of the open epoch, each after its packed indices."""

    def walk_length(self) -> int:
        """Returns how many batches `walk` gives, on this rank."""
        return -(-len(self._pruner.share()) // self._pruner.sizes.batch_size)

    def _passed_over(self, indices: Indices, failed: int) -> int:
        """Returns how many batches could not be loaded before one that was.

        Args:
            indices: Its samples.
            failed: How often loading failed: a batch each, unless something else did.
        """
        return failed

    # What can be looked at.

    @property
    def pruner(self) -> Pruner:
        """The pruner: `history`, `losses`, `left_out`, `saved`."""
        pruner, given = self._pruner, self._given
        last = pruner.ranks is None and pruner.epoch == pruner.epochs - 1
        every = given.answered and not given.unanswered and not self._with_indices
        if last and (given.whole or (every and self.progress == 1)):
            self._close()  # as many batches were taken as there are, and the end not asked for
        return pruner

    @property
    def epoch(self) -> int:
        """The open epoch; between two the next one, after the run the last one."""
        pruner = self._pruner
        return min(pruner.next_epoch, pruner.epochs - 1) if pruner.epoch is None else pruner.epoch

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return self._pruner.epochs

    @property
    def total_batches(self) -> int:
        """Batches of the whole run on each rank, exact before it starts.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return sum(self._lengths("total_batches"))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, exact before it starts; for learning-rate schedules.

        They are the batches, unless `accumulation` says that several make a step; then the last
        ones of an epoch make one of their own.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return sum(-(-batches // self._accumulation) for batches in self._lengths("total_steps"))

    def _lengths(self, what: str) -> list[int]:
        lengths = self._pruner.lengths
        if lengths is None:
            raise RuntimeError(
                f"{what} is known under a budget only, since epochs vary in length without: give "
                "budget=, or drive the schedule by seta.ProgressSchedule"
            )
        return [self._batches_of(length) for length in lengths]

    def _batches_of(self, samples: int) -> int:
        """Returns the batches of each rank in an epoch of so many samples of all ranks."""
        return -(-self._pruner.share_size(samples) // self._pruner.sizes.batch_size)

    @property
    def position(self) -> int:
        """Batches of the open epoch, on this rank, that need not be trained again: 0 between two.

        Where a resumed epoch goes on: `for step, batch in enumerate(loader, loader.position)`.
        """
        pruner = self._pruner
        if pruner.epoch is None:
            return 0
        return self._batches_before() + self._given.done

    def _batches_before(self) -> int:
        """Returns how many batches of the open epoch were done before a resume, or a copy."""
        pruner = self._pruner
        if not pruner.resumed and not pruner.done:
            return 0
        return self._batches_of(pruner.kept) - self.walk_length()

    @property
    def progress(self) -> float:
        """The share of the run that has been given out, in epochs: 0 before it, 1 at its end."""
        pruner = self._pruner
        if pruner.epoch is None:
            return pruner.next_epoch / pruner.epochs
        batches = self._batches_of(pruner.kept)
        given = self._batches_before() + self._given.count
        return (pruner.epoch + (min(1.0, given / batches) if batches else 1.0)) / pruner.epochs

    def __len__(self) -> int:
        """Batches in the open epoch; begins the next if none is open and the run is not over."""
        pruner = self._pruner
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs and pruner.history:
            return self._batches_of(int(pruner.history[-1]["kept"]))
        pruner.begin_epoch()
        return self._batches_of(pruner.kept)

    # The life of an epoch.

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass: over the open epoch where none of it was answered, else over the next.

        Raises:
            RuntimeError: All epochs are over; or the last pass was trained without `update`.
        """
        pruner, given = self._pruner, self._given
        if pruner.epoch is not None and not self._again and (given.answered or given.whole):
            self._close()
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs:
            raise RuntimeError(
                f"all {pruner.epochs} epochs of this run are over (epochs={pruner.epochs}): "
                "construct the loader with more epochs (or steps), or iterate over the dataset "
                "with a plain DataLoader. After load_state_dict the loop begins at "
                "loader.pruner.next_epoch. A pass that was left after an answered batch counts as "
                "an epoch. Something that fixes the batches of an epoch from the first one "
                "(ignite's epoch_length) needs epochs of one length: give budget="
            )
        pruner.begin_epoch()
        self._turn()
        return Pass(self, self.walk(), self.walk_length())

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next pass walks through.

        Another epoch that is open ends, if any of it was answered; asking twice for one epoch
        changes nothing.

        Raises:
            ValueError: The epoch is over already, or there is no such epoch.
            RuntimeError: As `end_epoch`, of another epoch that is open.
        """
        pruner = self._pruner
        if pruner.epoch not in (None, epoch):
            pruner.check_epoch(epoch)
            self._close()
        pruner.begin_epoch(epoch)
        self._keep_to_epoch()
        self._again = True

    def end_epoch(self) -> Row:
        """Ends the open epoch, as the next pass would; for a `break` out of the last one.

        Of several processes all call it: it is the one exchange of the epoch.

        Returns:
            The row of the epoch that ended last, now or before.

        Raises:
            RuntimeError: No epoch has begun; or a rank did not come within the group's timeout, or
                has nothing to report, or does not agree: it is named.
        """
        pruner = self._pruner
        if pruner.epoch is not None:
            self._close()
        if not pruner.history:
            raise RuntimeError(
                "end_epoch() needs an epoch of which a batch was answered, and none has begun"
            )
        return dict(pruner.history[-1])

    def _close(self) -> None:
        """Ends the open epoch; forgets it where it has not begun."""
        pruner, given = self._pruner, self._given
        if given.whole and not given.answered and not self._pruner.begun:
            self._refuse_forgotten()
        if self._has_begun:
            pruner.walked(0)  # batches are counted here: workers walk ahead, batches are skipped
            pruner.end_epoch()
        else:
            pruner.forget_epoch()
        if given.whole and given.unanswered:
            logger.warning(
                "%d of %d batches of epoch %d were given out and neither answered by update() nor "
                "left out by skip(): their samples keep their old losses",
                given.unanswered, given.count, given.epoch,
            )  # fmt: skip
        self._turn()

    @property
    def _has_begun(self) -> bool:
        return bool(self._given.answered or len(self._buffer) or self._pruner.begun)

    def _came_to_its_end(self, missing: int) -> None:
        """Ends the epoch of a pass that is through, if no loss of it can come any more."""
        given = self._given
        if missing > 0:
            raise RuntimeError(
                f"the pass over epoch {self.epoch} ended {missing} batches early: something "
                "between the dataset and the loader stopped it"
            )
        given.whole = bool(given.count)
        forgotten = given.whole and not given.answered and not self._pruner.begun
        if forgotten and not self._with_indices:
            self._refuse_forgotten()
        if not given.unanswered or not self._with_indices:
            self.end_epoch()

    def _refuse_forgotten(self) -> NoReturn:
        """Says that a pass was trained without `update`; once, the next one walks again."""
        given = self._given
        self._turn()
        raise RuntimeError(
            f"none of the {given.count} batches of epoch {given.epoch} was answered, so that "
            "nothing is known of any sample: call loss = loader.update(losses) for each batch, "
            'with one loss per sample (reduction="none"), or loader.skip() for one that is left '
            "out. To look at all batches without training, iterate over a plain DataLoader"
        )

    @property
    def _given(self) -> Given:
        """The batches of the latest pass over the open epoch."""
        self._keep_to_epoch()
        return self._latest

    def _keep_to_epoch(self) -> None:
        """Forgets what was given out of an epoch that was ended by someone else."""
        if self._latest.epoch != self._pruner.epoch:
            self._turn()

    def _turn(self) -> None:
        """Forgets the batches of the pass before; its iterator is stale."""
        self._latest = Given(self._pruner.epoch)
        self._again = False

    # The losses of a batch.

    @eager
    def update(
        self,
        losses: Tensor,
        indices: ArrayLike | Tensor | None = None,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Takes the losses of a batch and returns the one to call `backward()` on.

        Args:
            losses: Floats (B,), one per sample, or (B, ...), reduced to one by the mean; of any
                floating dtype, on any device, never changed.
            indices: Integers (B,), the samples that the losses belong to; None: the one batch that
                is unanswered. Best on the CPU: from a device they have to be waited for.
            mask: The shape of `losses` (B, ...): which of its elements count.
            counts: Integers (B,), of how many terms each loss is the mean, such as
                `seta.token_counts(labels)`, on the device of the losses: for the mean over all
                terms of the batch. None: each sample counts alike.

        Returns:
            sum(weight x loss) / B, a scalar; with all weights 1 exactly `losses.mean()`. With
            `counts` sum(weight x count x loss) / sum(count).

        Raises:
            RuntimeError: It is not known which batch the losses belong to.
            TypeError, ValueError, IndexError: The losses or the indices do not fit.
        """
        losses = per_sample(losses, mask)
        if indices is None:
            samples = self._given.match(len(losses))
        elif self._pruner.epoch is None:
            raise RuntimeError("update needs an open epoch, and there is none: take a batch first")
        else:
            samples = sample_indices(indices, len(losses), self._pruner.n)
        loss = weighted_mean(losses, self._pruner.weights_of(samples), counts)
        self._buffer.add(samples, losses)
        self._given.answer(samples)
        return loss

    def weights(self, indices: ArrayLike | Tensor | None = None) -> Tensor:
        """Returns the weights that `update` gives the losses of a batch; for further terms.

        A second term of the loss is weighted alike, before `update` answers the batch:
        `(loader.weights().to(device) * distillation).mean()`.

        Args:
            indices: Integers (B,), the samples; None: the one batch that is unanswered.

        Returns:
            float32 (B,) on the CPU; fixed for the epoch, however often asked for.

        Raises:
            RuntimeError: It is not known which batch is meant, or no epoch is open.
        """
        if indices is None:
            samples = self._given.only("weights() (before update)")
        else:
            samples = sample_indices(indices, None, self._pruner.n)
        weights = self._pruner.weights_of(samples)
        return torch.ones(len(samples)) if weights is None else torch.from_numpy(weights)

    def skip(self) -> None:
        """Leaves the one unanswered batch out: its samples keep the losses that they had.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self._given.skip()

    def flush(self) -> None:
        """Records losses still on a device, waiting for it; whatever needs them does so, too."""
        self._buffer.drain()

    # Saving and resuming.

    @property
    def _done(self) -> int:
        """Samples of the open epoch's selection, the first ones, that need not be trained again."""
        pruner = self._pruner
        if pruner.epoch is None:
            return 0
        if self._given.done and not self.in_order:
            raise RuntimeError(
                "in_order=False gives batches out in any order, so that no position tells what was "
                "trained: save or copy between two epochs, or leave in_order out"
            )
        return min(pruner.done + self._given.done * pruner.sizes.global_batch, pruner.kept)

    def state_dict(self, *, gather: bool = True) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too, for `torch.save`.

        Batches after the last answered one are given out again. What is not in it: the model, the
        optimizer, and torch's random state, which are the training loop's.

        With ranks, one state serves all of them: between epochs any rank's, so that one may save
        alone; in mid-epoch all ranks have to call this, as it gathers what they recorded. Of a
        sharded table, or with `gather=False`, each rank has a part: save all of them, and load all.

        Args:
            gather: In mid-epoch, gather what the other ranks recorded.

        Raises:
            RuntimeError: Batches arrive out of order (`in_order=False`) and the epoch is not over;
                or the ranks do not agree, or one did not come within the group's timeout.
        """
        state: dict[str, Any] = self._pruner.state_dict(
            done=self._done, begun=self._has_begun, gather=gather
        )
        return {"format": name_of(self._kind), "pruner": with_tensors(state)}

    def load_state_dict(
        self, state: dict[str, Any] | Iterable[dict[str, Any]], *, changed: Iterable[str] = ()
    ) -> None:
        """Goes on from a saved state: the next pass walks through the rest of the open epoch.

        The number of ranks may be another than that of the run that was saved. Where some ranks
        were ahead of others, the least counts: what the others had done more is done again.

        Args:
            state: What `state_dict` returned, read with `torch.load(path, weights_only=True)`; the
                states of all ranks, where each had a part.
            changed: What is meant to differ from the run that was saved, as for
                `Pruner.load_state_dict`.

        Raises:
            ValueError: Something else differs, or it is no such state; nothing is changed then.
        """
        states = upgraded(state, self._kind)
        self._pruner.load_state_dict(
            [with_arrays(one["pruner"].value) for one in states], changed=changed
        )
        self._turn()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy needs: it goes on where this one is, in a pass of its own.

        Raises:
            TypeError: Several processes train together.
        """
        if self._pruner.ranks is not None:
            raise TypeError(
                f"a {type(self).__name__} of several ranks cannot be copied or pickled, since "
                "their process group cannot: make one in each process, and hand over its "
                "state_dict()"
            )
        self.flush()
        return {**vars(self), "_done_before": self._done}

    def __copy__(self) -> NoReturn:
        """Refuses.

        Raises:
            TypeError: Always.
        """
        self.__getstate__()  # refuses where a deep copy is refused too
        raise TypeError(
            f"a shallow copy of a {type(self).__name__} would share its epochs: use "
            "copy.deepcopy, or iterate over this one"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        done = state.pop("_done_before")
        vars(self).update(state)
        self._turn()
        self._pruner.done = done


class Pass:
    """An iterator over one epoch, which knows when it is no longer the one to ask."""

    __slots__ = ("_batches", "_came", "_failed", "_given", "_left", "_loop", "_over")

    def __init__(self, loop: Loop, batches: Iterator[Any], left: int) -> None:
        self._loop, self._batches, self._left = loop, batches, left
        self._given = loop._given
        self._came = self._failed = 0
        self._over = False

    def __iter__(self) -> Pass:
        """Returns itself."""
        return self

    def __next__(self) -> Any:
        """Returns the next batch, as the user's own loader would.

        Raises:
            RuntimeError: A newer iteration, `set_epoch` or `end_epoch` came since this one began.
        """
        if self._over:
            raise StopIteration
        loop, given = self._loop, self._given
        if loop._given is not given:
            self._batches = iter(())
            if given.count == self._left:  # all came, and the epoch was ended by hand
                raise StopIteration
            raise RuntimeError(
                f"this iterator belongs to a pass over epoch {given.epoch} that has ended: a newer "
                "iteration, set_epoch or end_epoch came since. One loader serves one pass at a time"
            )
        try:
            packed, batch = next(self._batches)
        except StopIteration:
            given.fail(self._failed)
            self._over = True
            self._batches = iter(())
            loop._came_to_its_end(self._left - given.count)
            raise
        except BaseException:
            self._failed += 1
            raise
        indices = indices_of(packed)
        if self._failed:
            given.fail(loop._passed_over(indices, self._failed))
            self._failed = 0
        self._came += 1
        if self._came > self._left:
            raise RuntimeError(
                f"the pass over epoch {given.epoch} gives out more than the {self._left} batches "
                "that were chosen: walk() has to go over a PrunedSampler"
            )
        given.give(indices)
        return (torch.from_numpy(indices.copy()), batch) if loop._with_indices else batch


def worker_seed(pruner: Pruner, rank: int | None) -> int:
    """Returns what a pass over the open epoch seeds its workers from, the same in every run.

    Args:
        pruner: Of the run.
        rank: Of this process; None: it is alone.
    """
    key = (pruner.seed, pruner.epoch, _WORKERS, *(() if rank is None else (rank,)))
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


_WORKERS = 0x5E7A  # keeps the seeds of the workers apart from other uses of the run's seed
