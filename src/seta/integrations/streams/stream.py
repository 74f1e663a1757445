"""`PrunedStream`: the ordinary training loop, over a stream of which some samples are left out.

It asks its `Pruner` for each epoch's plan, tells the data-loading workers by a `KeepSet`, gives out
batches and takes their losses back, as `PrunedDataLoader` does where samples can be asked for. All
ranks give out equally many batches, see `ledger`.

Cost in the process that trains: some 80 microseconds per batch of 128. What is
pruned is read all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.data import DataLoader, default_collate

from seta.engine import Policy, Pruner
from seta.engine.budget import Budget
from seta.engine.rows import Row
from seta.integrations.streams.keep import KeepSet
from seta.integrations.streams.ledger import Ledger
from seta.integrations.streams.reader import Reader, as_it_is, batches_of
from seta.integrations.streams.sources import Source, check_source, shuffles
from seta.torch.arguments import check_batch_size
from seta.torch.course import Course, Pass
from seta.torch.eager import eager
from seta.torch.ranks import group_is_up, ranks_of, refuse_late_group
from seta.torch.state import with_arrays, with_tensors

logger = logging.getLogger(__name__)


class PrunedStream:
    """Trains each epoch on the samples of a stream that a policy keeps.

    One pass over it is one epoch, as for `PrunedDataLoader`: `update`, `skip`, `set_epoch`,
    `end_epoch`, `pruner` and `progress` are the same.

    An epoch is a number of whole batches, the same on all ranks, known when it begins (under a
    budget, before the run begins). Where `split` is True and the part of a rank holds more of the
    epoch's samples than that, the last ones of the part are left for another epoch; where it holds
    fewer, the rank reads its part again and fills up with samples that were pruned, each once; only
    a part that is too small altogether repeats samples. `figures` tells how many.

    Args:
        source: Rows that are mappings with an id: a Hugging Face `IterableDataset`, a webdataset
            pipeline, any iterable that begins anew each time; or a function that returns one, such
            as `iter_rows` of Ray Data. If it has a `set_epoch`, that is called before each pass.
        policy: A policy or its name.
        keep: The ids of the samples, and the set to filter the source by.
        epochs: Length of the run, >= 1.
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. None: as many as the policy keeps.
        batch_size: Samples per batch, on each rank, >= 1.
        split: Whether the source on each rank is a part of its own (True), or the whole stream
            (False), of which each rank takes its share of the plan: exact, for as many times the
            reading. Has to be said where there are several ranks.
        collate_fn: Kept rows -> batch, in the worker: the place to decode. None: torch's default.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,).
        seed: Of the selections.
        always_keep: Indices of samples that are never pruned.
        losses: Float (n,), a warm start.
        strata: Integers (n,), the class of each sample, for a policy that looks at classes.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        process_group: The processes that train together; None: all of `torch.distributed`.
        **options: Of torch's `DataLoader`: `num_workers`, `persistent_workers`, `prefetch_factor`,
            `multiprocessing_context`, `pin_memory`, `timeout`, `worker_init_fn`, `in_order`.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        source: Source,
        policy: Policy | str,
        *,
        keep: KeepSet,
        epochs: int,
        budget: Budget | None,
        batch_size: int,
        split: bool | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        with_indices: bool = False,
        seed: int = 0,
        always_keep: ArrayLike | None = None,
        losses: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        on_epoch: Callable[[Row], object] | Iterable[Callable[[Row], object]] | None = None,
        process_group: ProcessGroup | DeviceMesh | None = None,
        **options: Any,
    ) -> None:
        _check_options(options)
        if not isinstance(keep, KeepSet):
            raise TypeError(f'keep must be a KeepSet("id", n=...), got {type(keep).__name__}')
        self._made_alone = not group_is_up()
        ranks = ranks_of(process_group)
        self._ranks = 1 if ranks is None else ranks.size
        if split is None and ranks is not None:
            raise ValueError(
                f"split must be given, since {ranks.size} ranks train together: True where the "
                "source on each rank is a part of its own, False where it is the whole stream"
            )
        check_source(source, keep.id_column, self._ranks)
        self.source, self.batch_size = source, check_batch_size(batch_size)
        self._with_indices = with_indices
        self._ledger = ledger = Ledger(keep, batch_size, bool(split), budget is not None)
        listeners = [] if on_epoch is None else [on_epoch] if callable(on_epoch) else list(on_epoch)
        pruner = Pruner(
            keep.n,
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            unit=batch_size * self._ranks,
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            on_epoch=[ledger.close, *listeners],
            ranks=ranks,
            sharding="replicated",
        )
        ledger.attach(pruner)
        self._course = Course(pruner)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        self._generator = torch.Generator(torch.get_default_device())
        self._reader = Reader(source, keep, batch_size, self.collate_fn)
        self._loader: DataLoader[Any] = DataLoader(
            self._reader,
            batch_size=None,
            collate_fn=as_it_is,
            generator=self._generator,
            **options,
        )

    @property
    def pruner(self) -> Pruner:
        """The pruner, all losses handed over recorded (on a device this waits)."""
        self.flush()
        return self._course.pruner

    @property
    def epoch(self) -> int:
        """The open epoch; between two the next one, after the run the last one."""
        return self._course.shown_epoch

    @property
    def figures(self) -> list[dict[str, int]]:
        """Of each epoch that is over, samples: `planned`, `filled` up with, `repeated`."""
        return [dict(row) for row in self._ledger.figures]

    @property
    def total_steps(self) -> int:
        """Batches of the whole run, exact before it starts; for learning-rate schedules.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return self._course.total_batches(self._batches_of)

    @property
    def progress(self) -> float:
        """The share of the run that has been given out, in epochs: 0 before it, 1 at its end."""
        course = self._course
        if course.epoch is None:
            return course.next_epoch / course.epochs
        whole = self._batches_of(len(course.begin_epoch()))
        done = whole - min(whole, self._rest) + course.unanswered.given
        return (course.epoch + min(1.0, done / whole if whole else 1.0)) / course.epochs

    @property
    def _rest(self) -> int:
        """Batches of the open epoch that were not trained before a resume."""
        return -(-self._ledger.wanted // self.batch_size)

    def _batches_of(self, samples: int) -> int:
        """Returns the batches of each rank that so many samples make."""
        if self._ranks == 1:
            return -(-samples // self.batch_size)
        return samples // (self.batch_size * self._ranks)

    def __len__(self) -> int:
        """Batches in the open epoch; begins the next if none is open and the run is not over."""
        course = self._course
        if course.epoch is None and course.next_epoch >= course.epochs and course.history:
            return self._batches_of(int(course.history[-1]["kept"]))
        return self._batches_of(len(course.begin_epoch()))

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass over an epoch.

        Raises:
            RuntimeError: All epochs are over.
                Or the stream was made before torch.distributed was initialised.
        """
        if self._made_alone:
            refuse_late_group("PrunedStream")
        course = self._course
        course.start()
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(self.epoch)
        seed = np.random.SeedSequence((course.pruner.seed, self.epoch))
        self._generator.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        batches = batches_of(self._reader, self._loader, self._ledger)
        return Pass(course, batches, self._with_indices)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next pass walks through.

        Raises:
            ValueError: The epoch is over already, or there is no such epoch.
        """
        self._course.begin_epoch(epoch)

    def end_epoch(self) -> Row:
        """Ends the open epoch, as the next pass would; for a `break` out of the last one.

        Of several ranks all call it.

        Raises:
            RuntimeError: No epoch has begun; or the ranks do not agree.
        """
        return self._course.close_epoch()

    @eager
    def update(
        self, losses: Tensor, indices: ArrayLike | Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Takes the losses of a batch and returns the one to call `backward()` on.

        Args:
            losses: Floats (B,), one per sample, or (B, ...), reduced to one by the mean.
            indices: Integers (B,), the samples that the losses belong to; None: the one batch that
                is unanswered.
            mask: The shape of `losses` (B, ...): which of its elements count.

        Returns:
            sum(weight x loss) / B, a scalar.

        Raises:
            RuntimeError: It is not known which batch the losses belong to.
            TypeError, ValueError, IndexError: The losses or the indices do not fit.
        """
        loss, samples = self._course.answer(losses, indices, mask)
        self._ledger.answer(samples)
        return loss

    def skip(self) -> None:
        """Leaves the one unanswered batch out: its samples keep the losses that they had.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self._course.unanswered.skip()

    def flush(self) -> None:
        """Records losses still on a device, waiting for it; the end of an epoch does so, too."""
        self._course.buffer.drain()

    def state_dict(self) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too, for `torch.save`.

        It holds which samples of the open epoch are trained, and no position in the stream: a run
        that goes on reads the stream from its beginning, and takes what is left of the epoch.

        One state serves all ranks. In mid-epoch all of them have to call this.

        Raises:
            RuntimeError: The ranks do not agree.
        """
        pruner = self.pruner.state_dict()
        trained = None
        if pruner["open"] is not None:
            trained = self._ledger.trained(f"state_dict() in epoch {self.epoch}")
        state: dict[str, Any] = {"pruner": pruner, "trained": trained, "figures": self.figures}
        return dict(with_tensors(state))

    def load_state_dict(self, state: dict[str, Any], *, changed: Iterable[str] = ()) -> None:
        """Goes on from a saved state: the next pass trains what is left of the open epoch.

        The number of ranks may be another than that of the run that was saved.

        Args:
            state: What `state_dict` returned, read with `torch.load(path, weights_only=True)`.
            changed: What is meant to differ from the run that was saved, as for
                `Pruner.load_state_dict`.

        Raises:
            ValueError: Something else differs, or it is no such state; nothing is changed then.
        """
        if not isinstance(state, dict) or not {"pruner", "trained", "figures"} <= state.keys():
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise ValueError(
                "state must be what PrunedStream.state_dict() returned, a dict with 'pruner' and "
                f"'trained', got {found}"
            )
        saved = with_arrays(state)
        self._course.pruner.load_state_dict(saved["pruner"], changed=changed)
        self._course.restart(0)
        self._ledger.restore(saved["trained"])
        self._ledger.figures = [dict(row) for row in saved["figures"]]
        if saved["trained"] is not None and shuffles(self.source):
            logger.warning(
                "the rest of epoch %d is the same samples as it would have been, but maybe in "
                "another order: a shuffle buffer does not give its rows in the same order again, "
                "unless it is seeded and comes before all filters. Save between two epochs to "
                "resume exactly",
                self.epoch,
            )


_OPTIONS = (
    "num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context",
    "pin_memory", "timeout", "worker_init_fn", "in_order",
)  # fmt: skip


def _check_options(options: dict[str, Any]) -> None:
    """Refuses options that a stream has no use for.

    Raises:
        TypeError: Names them.
    """
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise TypeError(
            f"PrunedStream has no option {', '.join(unknown)}: it takes its own, and of torch's "
            f"DataLoader {', '.join(_OPTIONS)}. The order of the samples is that of the source"
        )
