"""The base class of all loaders: passes over epochs, and the losses of their batches.

    for batch in loop:                  a Pass over the batches of the framework's own loader
        loss = loop.update(losses)      indices of the batch -> weights, LossBuffer -> Pruner

`PrunedDataLoader` and the loaders of the integrations derive from `Loop` and add `walk`, which
yields the batches of the open epoch with their indices. `Loop` alone decides where an epoch ends:
in `__iter__`, `set_epoch`, `end_epoch`, and at the end of a pass; the last epoch also where
`pruner` is read after its last losses.

An epoch without an answered batch has not begun: the next pass yields it again.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

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
from seta.torch.eager import eager
from seta.torch.given import Given, Indices
from seta.torch.losses import per_sample, weighted_mean
from seta.torch.passes import Pass
from seta.torch.state import with_arrays, with_tensors

logger = logging.getLogger(__name__)


class Loop(ABC):
    """Base class for loaders: each pass is one epoch of a pruner, and `update` takes its losses.

    A subclass implements `walk`, and `walk_length` if it yields something else than this rank's
    share in batches of the pruner's batch size.

    - Training: iteration, `update`, `weights`, `skip`, `set_epoch`, `end_epoch`, `flush`.
    - Lengths: `len(loop)`, `total_steps`, `total_batches`, `epoch`, `epochs`, `position`,
      `progress`.
    - The run: `pruner`.
    - Saving: `state_dict`, `load_state_dict`.
    - For subclasses: `walk`, `walk_length`, `in_order`.

    Args:
        pruner: Selects the samples.
        with_indices: Whether to yield `(indices, batch)`, indices int64 (B,).
        accumulation: Batches per optimizer step, for `total_steps`.

    Attributes:
        in_order: Whether batches arrive in the order of the selection. False: positions within an
            epoch are not known, and it cannot be saved.
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
        self._named = False  # whether samples were named in update
        self._closed_at = 0  # position in the last epoch, where reading `pruner` ended it
        self._warned = False  # of a pass that was left with a batch in hand
        self._first: int | None = None  # batches of the first pass, 0 if it was left before its end

    def __repr__(self) -> str:
        batch = self._pruner.sizes.batch_size
        return f"{type(self).__name__}(batches of {batch}, {self._pruner!r})"

    def _repr_html_(self) -> str:
        return html_of_run(repr(self), self._pruner.history)

    # For subclasses.

    @abstractmethod
    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns an iterator over this rank's part of the open epoch.

        It yields `(packed indices, batch)`. `IndexedCollate` packs indices.
        """

    def walk_length(self) -> int:
        """Returns the number of batches that `walk` yields on this rank."""
        return -(-len(self._pruner.share()) // self._pruner.sizes.batch_size)

    def _passed_over(self, indices: Indices, failed: int) -> int:
        """Returns how many batches could not be loaded before one that was.

        Args:
            indices: Its samples.
            failed: How often loading failed: a batch each, unless something else did.
        """
        return failed

    # Progress.

    @property
    def pruner(self) -> Pruner:
        """The pruner, with `history`, `losses`, `table()`, `saved` and more."""
        pruner, given = self._pruner, self._given
        last = pruner.ranks is None and pruner.epoch == pruner.epochs - 1
        late = self._with_indices or self._named  # losses may come late, and in parts
        # Some engines take as many batches as there are, and do not ask for the end.
        all_out = given.whole or (not late and self.progress == 1)
        answered = given.answered and not given.unanswered
        forgotten = given.whole and not given.answered and given.count > 1
        if last and all_out and (answered or forgotten or (given.whole and not late)):
            position = self.position
            self._close()
            self._closed_at = position
        return pruner

    @property
    def epoch(self) -> int:
        """Number of the open epoch; between epochs the next one, after the run the last one."""
        pruner = self._pruner
        return min(pruner.next_epoch, pruner.epochs - 1) if pruner.epoch is None else pruner.epoch

    @property
    def epochs(self) -> int:
        """Length of the run in epochs."""
        return self._pruner.epochs

    @property
    def total_batches(self) -> int:
        """Batches of the whole run on each rank, known before the run starts.

        Raises:
            RuntimeError: There is no budget, so the number is not known.
        """
        return sum(self._lengths("total_batches"))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, known before it starts; for learning-rate schedules.

        Equal to `total_batches`, unless `accumulation` is above 1; then the last batches of an
        epoch make a step of their own.

        Raises:
            RuntimeError: There is no budget, so the number is not known.
        """
        return sum(-(-batches // self._accumulation) for batches in self._lengths("total_steps"))

    def _lengths(self, what: str) -> list[int]:
        lengths = self._pruner.lengths
        if lengths is None:
            raise RuntimeError(
                f"{what} is known under a budget only, since epochs vary in length without one: "
                "give budget=, or drive the schedule by seta.ProgressSchedule"
            )
        return [self._batches_of(length) for length in lengths]

    def _batches_of(self, samples: int) -> int:
        """Returns the batches of each rank in an epoch of so many samples of all ranks."""
        return -(-self._pruner.share_size(samples) // self._pruner.sizes.batch_size)

    @property
    def position(self) -> int:
        """Batches of the open epoch that this rank has trained; 0 between epochs.

        Read after `update`, it is the number of the batch, counted from 1; after a resume, too, and
        in the last batch of the run, where a look at `pruner` ends the epoch.
        """
        pruner = self._pruner
        if pruner.epoch is None:
            return self._closed_at
        return self._batches_before() + self._given.done

    def _batches_before(self) -> int:
        """Returns how many batches of the open epoch were done before a resume, or a copy."""
        pruner = self._pruner
        if not pruner.resumed and not pruner.done:
            return 0
        return self._batches_of(pruner.kept) - self.walk_length()

    @property
    def progress(self) -> float:
        """Share of the run that is done, by epochs and batches: 0 at the start, 1 at the end."""
        pruner = self._pruner
        if pruner.epoch is None:
            return pruner.next_epoch / pruner.epochs
        batches = self._batches_of(pruner.kept)
        given = self._batches_before() + self._given.count
        return (pruner.epoch + (min(1.0, given / batches) if batches else 1.0)) / pruner.epochs

    def __len__(self) -> int:
        """Number of batches in the open epoch; begins the next epoch if none is open."""
        pruner = self._pruner
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs and pruner.history:
            return self._batches_of(int(pruner.history[-1]["kept"]))
        pruner.begin_epoch()
        return self._batches_of(pruner.kept)

    # The life of an epoch.

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass over the open epoch if none of its batches was answered, else the next.

        Raises:
            RuntimeError: The last pass was trained without `update`. If all epochs are over, the
                first batch raises.
        """
        pruner, given = self._pruner, self._given
        if pruner.epoch is not None and not self._again and (given.answered or self._all_out):
            self._close()
        if pruner.epoch is None and pruner.next_epoch >= pruner.epochs:
            return self._over()
        pruner.begin_epoch()
        self._turn()
        return Pass(self, self.walk(), self.walk_length())

    def _over(self) -> Iterator[NoReturn]:
        """Raises when a batch is asked for: Keras makes one more iterator and does not use it."""
        epochs = self._pruner.epochs
        raise RuntimeError(
            f"all {epochs} epochs of this run are over (epochs={epochs}): "
            "construct the loader with more epochs (or steps), or iterate over the dataset "
            "with a plain DataLoader. After load_state_dict, start the loop at "
            "loader.pruner.next_epoch. A pass that was left by a break, after an answered "
            "batch, counts as an epoch. Frameworks that take the number of batches from the "
            "first epoch (ignite's epoch_length) need epochs of one length: give budget="
        )
        yield

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass.

        If another epoch is open and a batch of it was answered, that epoch ends. Calling it again
        with the same epoch has no effect.

        Args:
            epoch: Number in 0 .. epochs - 1.

        Raises:
            ValueError: The epoch is over, or lies beyond the run.
            RuntimeError: Another epoch is open and cannot end; see `end_epoch`.
        """
        pruner = self._pruner
        if pruner.epoch not in (None, epoch):
            pruner.check_epoch(epoch)
            self._close()
        pruner.begin_epoch(epoch)
        self._keep_to_epoch()
        self._again = True

    def end_epoch(self) -> Row:
        """Ends the open epoch, as the next pass would; needed after a `break` from the last epoch.

        With several processes, all must call it: they exchange their losses here.

        Returns:
            The row of the epoch that ended last, now or earlier; see `Pruner.history`.

        Raises:
            RuntimeError: No epoch has begun, or a rank did not call it within the timeout of the
                process group, recorded no loss, or does not agree. The message names the rank.
        """
        pruner = self._pruner
        if pruner.epoch is not None:
            self._close()
        if not pruner.history:
            raise RuntimeError(
                "end_epoch() needs an epoch of which a batch was answered, and none has begun"
            )
        return pruner.history[-1]

    def _close(self) -> None:
        """Ends the open epoch, or forgets it if it has not begun."""
        pruner, given, all_out = self._pruner, self._given, self._all_out
        if all_out and not given.answered and not self._pruner.begun:
            self._refuse_forgotten()
        if self._has_begun:
            pruner.walked(0)  # batches are counted here: workers walk ahead, batches are skipped
            pruner.end_epoch()
        else:
            pruner.forget_epoch()
        self._look_for_a_cut(given, all_out)
        if given.unanswered and given.answered and not given.whole and not self._with_indices:
            self._warn_of_leaving(given)
        if given.whole and given.unanswered:
            logger.warning(
                "%d of %d batches of epoch %d were given out and neither answered by update() nor "
                "left out by skip(): their samples keep their earlier losses",
                given.unanswered, given.count, given.epoch,
            )  # fmt: skip
        self._turn()

    def _look_for_a_cut(self, given: Given, all_out: bool) -> None:
        """Warns, once, of a pass left after as many batches as the first one had (Keras)."""
        if self._first is None:
            self._first = given.count if all_out else 0
        elif not all_out and given.count == self._first and given.answered == given.count:
            logger.warning(
                "the pass over epoch %d was left after %d batches, as many as the first pass had, "
                "and has more: an engine that takes the length of its first epoch for all cuts the "
                "others. Give all epochs one length, "
                "budget=Fraction(batches * batch_size, len(dataset)). It is logged once",
                given.epoch, given.count,
            )  # fmt: skip
            self._first = 0

    def _warn_of_leaving(self, given: Given) -> None:
        """Warns, once, of a pass that was left with a batch in hand; called as its epoch ends."""
        if not self._warned:
            logger.warning(
                "the pass over epoch %d was left after %d batches, the last of which was neither "
                "answered by update() nor left out by skip(): the epoch ends there. For a limit on "
                "the batches use itertools.islice(loader, limit), which takes no further one. If "
                "another loader came to its end (zip), put this one first and make the other "
                "endless. It is logged once",
                given.epoch, given.count,
            )  # fmt: skip
        self._warned = True

    @property
    def _all_out(self) -> bool:
        """Whether the latest pass gave out all its batches.

        Keras and ignite count batches, and do not ask for the end of a pass. One batch may be a
        look at the data.
        """
        given = self._given
        return given.whole or given.count == self.walk_length() > 1

    @property
    def _has_begun(self) -> bool:
        return bool(self._given.answered or len(self._buffer) or self._pruner.begun)

    def _came_to_its_end(self, missing: int) -> None:
        """Ends the epoch of a complete pass, if no more losses of it can come."""
        given = self._given
        if missing > 0:
            raise RuntimeError(
                f"the pass over epoch {self.epoch} ended {missing} batches early: code between the "
                "dataset and the loader stopped it, such as a StopIteration"
            )
        given.whole = bool(given.count)
        forgotten = given.whole and not given.answered and not self._pruner.begun
        if forgotten and not self._with_indices:
            self._refuse_forgotten()
        if not given.unanswered or not self._with_indices:
            self.end_epoch()

    def _refuse_forgotten(self) -> NoReturn:
        """Raises for a pass without `update`; the next pass yields the epoch again."""
        given = self._given
        self._turn()
        if given.failed == given.count:
            raise RuntimeError(
                f"all {given.count} batches of epoch {given.epoch} failed to load, so there are no "
                "losses to prune by: the loop caught their errors, which say why"
            )
        raise RuntimeError(
            f"none of the {given.count} batches of epoch {given.epoch} was answered, so there are "
            "no losses to prune by: call loss = loader.update(losses) for each batch, with one "
            'loss per sample (reduction="none"), or loader.skip() for a batch that is left out. '
            "To read all batches without training, iterate over a plain DataLoader"
        )

    @property
    def _given(self) -> Given:
        """The batches of the latest pass over the open epoch."""
        self._keep_to_epoch()
        return self._latest

    def _keep_to_epoch(self) -> None:
        """Forgets the batches of an epoch that was ended through the pruner."""
        if self._latest.epoch != self._pruner.epoch:
            self._turn()

    def _turn(self) -> None:
        """Forgets the batches of the pass before; its iterator is stale."""
        before, epoch = self._latest, self._pruner.epoch
        late = before.late if before.epoch in (None, epoch) else before.open
        self._latest = Given(epoch, late)
        self._again = False
        self._closed_at = 0

    # The losses of a batch.

    def _check_in_time(self, samples: Indices) -> None:
        """Raises if samples are those of a batch of the pass before, whose epoch is over."""
        if self._given.is_late(samples):
            raise RuntimeError(
                f"indices are those of a batch of the pass before, and epoch {self.epoch} has "
                "begun: answer the last batch of a pass before the next pass gives one out. Take "
                "batches ahead within a pass alone"
            )

    def _check_selected(self, samples: Indices) -> None:
        """Raises if losses are named for samples that the open epoch does not train."""
        if self._pruner.sharding == "sharded":
            return  # samples that other processes hold are not known here
        others = samples[~self._pruner.selects(samples)]
        if len(others):
            raise ValueError(
                f"indices must be samples of this epoch, got {len(others)} that epoch {self.epoch} "
                f"left out, such as {others[0]}: give positions in the loader's dataset, counted "
                "from 0, no ids or positions in the dataset that a Subset is made of; the loader "
                "yields them with with_indices=True"
            )

    @eager
    def update(
        self,
        losses: Tensor,
        indices: ArrayLike | Tensor | None = None,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Records the per-sample losses of a batch, and returns its loss for `backward()`.

        Args:
            losses: Floats (B,), one per sample, or (B, ...), which is averaged per sample; any
                floating dtype and device. Not modified.
            indices: Integers (B,), the samples of the losses. None: the one batch that has not been
                answered. Preferably on the CPU, as reading them from a device waits for it.
            mask: Bool or numbers, same shape as `losses` (B, ...): elements that are 0 or False do
                not count.
            counts: Numbers (B,), the number of terms that each loss is the mean of, on the device
                of the losses, such as `seta.token_counts(labels)`; the result is then the mean over
                all terms of the batch. Or class weights, `weight[targets]`, for torch's weighted
                mean; the losses are recorded without them. None: the mean over samples.

        Returns:
            Scalar, sum(weight x loss) / B; exactly `losses.mean()` if all weights are 1. With
            `counts`, sum(weight x count x loss) / sum(count).

        Raises:
            RuntimeError: No batch, or more than one, is unanswered, and `indices` is None.
            TypeError, ValueError, IndexError: `losses` or another argument is invalid.
        """
        losses = per_sample(losses, mask)
        if indices is None:
            samples = self._given.match(len(losses))
        elif self._pruner.epoch is None:
            raise RuntimeError(
                "update needs an open epoch, and there is none: take a batch first. If the last "
                "batch of a pass is answered after its end, as behind a prefetcher, construct the "
                "loader with with_indices=True"
            )
        else:
            samples = sample_indices(indices, len(losses), self._pruner.n)
            self._check_in_time(samples)
            self._check_selected(samples)
            self._named = True
        loss = weighted_mean(losses, self._pruner.weights_of(samples), counts)
        self._buffer.add(samples, losses)
        self._given.answer(samples)
        return loss

    def weights(self, indices: ArrayLike | Tensor | None = None) -> Tensor:
        """Returns the loss weights of a batch, to weight further terms of the loss.

        Call it before `update`: `(loader.weights().to(device) * distillation).mean()`.

        Args:
            indices: Integers (B,), the samples. None: the one batch that has not been answered.

        Returns:
            float32 (B,) on the CPU; fixed for the epoch.

        Raises:
            RuntimeError: No epoch is open; or no batch, or more than one, is unanswered, and
                `indices` is None.
        """
        if indices is None:
            samples = self._given.only("weights() (before update)")
        else:
            samples = sample_indices(indices, None, self._pruner.n)
            self._check_in_time(samples)
        weights = self._pruner.weights_of(samples)
        ones = torch.ones(len(samples), device="cpu")
        return ones if weights is None else torch.from_numpy(weights)

    def skip(self) -> None:
        """Skips the one unanswered batch: its samples keep their earlier losses.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self._given.skip()

    def flush(self) -> None:
        """Records losses that are still on a device; called automatically when they are needed."""
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
                "in_order=False gives batches out in any order, so positions in the epoch are not "
                "known: save or copy between two epochs, or leave in_order out"
            )
        return min(pruner.done + self._given.done * pruner.sizes.global_batch, pruner.kept)

    def state_dict(self, *, gather: bool = True) -> dict[str, Any]:
        """Returns the state to resume from, between epochs or within one, for `torch.save`.

        After a resume, batches after the last answered one are yielded again. Not included are the
        model, the optimizer, and torch's random state.

        With ranks, one state serves all: between epochs that of any rank, so that one rank may save
        alone; within an epoch all ranks must call this, since it gathers what they recorded. With a
        sharded table, or `gather=False`, each rank has a part: save all parts, and load all.

        Args:
            gather: Within an epoch, whether to gather what the other ranks recorded.

        Raises:
            RuntimeError: Batches arrive out of order (`in_order=False`) and the epoch is not over;
                or the ranks do not agree, or a rank did not call it within the timeout.
        """
        state: dict[str, Any] = self._pruner.state_dict(
            done=self._done, begun=self._has_begun, gather=gather
        )
        return {"format": name_of(self._kind), "pruner": with_tensors(state)}

    def load_state_dict(
        self, state: dict[str, Any] | Iterable[dict[str, Any]], *, changed: Iterable[str] = ()
    ) -> None:
        """Resumes from a saved state: the next pass yields the rest of the open epoch.

        The number of ranks may have changed. If some ranks were ahead of others when the state was
        saved, all resume where the last one was: the rest is trained again.

        Args:
            state: The return value of `state_dict`, loaded with
                `torch.load(path, weights_only=True)`; the states of all ranks if each had a part.
            changed: Names of arguments that may differ from those of the saved run, as for
                `Pruner.load_state_dict`.

        Raises:
            ValueError: Another argument differs, or the state is invalid; nothing is changed.
        """
        states = upgraded(state, self._kind)
        self._pruner.load_state_dict(
            [with_arrays(one["pruner"].value) for one in states], changed=changed
        )
        self._latest = Given(self._pruner.epoch)
        self._turn()
        self._warn_of_a_rest()

    def _warn_of_a_rest(self) -> None:
        """Warns of samples of a resumed epoch that other batches than before leave out."""
        pruner = self._pruner
        if pruner.epoch is None or not pruner.done or pruner.sharding == "sharded":
            return
        ranks = 1 if pruner.ranks is None else pruner.ranks.size
        planned, taken = ranks * pruner.share_size(pruner.kept), ranks * len(pruner.share())
        if planned - pruner.done > taken:
            rest = pruner.kept - pruner.done
            logger.warning(
                "epoch %d is resumed with other batches or ranks than it had: of its %d samples "
                "that are left, %d do not fill a batch and are left out. A state from between two "
                "epochs leaves none out",
                pruner.epoch, rest, rest - taken,
            )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy needs to continue where this one is, in a pass of its own.

        Raises:
            TypeError: Several processes train together.
        """
        if self._pruner.ranks is not None:
            raise TypeError(
                f"a {type(self).__name__} of several ranks cannot be copied or pickled, since "
                "their process group cannot: make one in each process, and pass on its "
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
