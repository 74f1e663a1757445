"""`PrunedStream`: the ordinary training loop over a stream, of which some samples are left out.

It asks its `Pruner` for each epoch's plan, tells the data-loading workers by a `KeepSet`, and gives
out batches; all else is as in `PrunedDataLoader`, where samples can be asked for. All ranks give
out equally many batches, see `ledger`.

Cost in the process that trains: some 80 microseconds per batch of 128. What is pruned is read all
the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

import torch
from numpy.typing import ArrayLike
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.data import DataLoader, default_collate

from seta.engine import Policy, Pruner
from seta.engine.arguments import Listener, listeners
from seta.engine.state.fields import Field
from seta.engine.state.parts import upgraded
from seta.engine.steps import Budget
from seta.integrations.streams.agreement import check_ids, check_trained
from seta.integrations.streams.keep import KeepSet
from seta.integrations.streams.ledger import Ledger
from seta.integrations.streams.reader import Reader, SourceInit, as_it_is, batches_of
from seta.integrations.streams.sources import Source, check_source, shuffles
from seta.torch.arguments import check_batch_size
from seta.torch.dataset import IndexedCollate
from seta.torch.loop import Loop
from seta.torch.passes import worker_seed
from seta.torch.ranks import group_is_up, ranks_of, refuse_late_group
from seta.torch.state import with_arrays, with_tensors

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)


def _unpacked(state: Field) -> Field:
    """Returns a state with its tensors as arrays."""
    packed = {name: with_arrays(state[name].value) for name in ("pruner", "trained")}
    return Field({**state.value, **packed}, state.path)


class StreamOptions(TypedDict, total=False):
    """The options of torch's `DataLoader` that a stream has a use for."""

    num_workers: int
    pin_memory: bool
    drop_last: bool
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: Any
    prefetch_factor: int | None
    persistent_workers: bool
    pin_memory_device: str
    in_order: bool


class PrunedStream(Loop):
    """Trains each epoch on the samples of a stream that a policy keeps.

    One pass over it is one epoch, as for `PrunedDataLoader`, whose methods it has.

    An epoch is a number of full batches, the same on all ranks, known when it begins (under a
    budget, before the run begins). Where `split` is True and the part of a rank holds more of the
    epoch's samples than that, the last ones of the part are left for another epoch. Where a stream
    or a part holds fewer, it is read again, to fill up with samples that were pruned, each once;
    only one that is too small altogether repeats samples. `figures` tells how many.

    Args:
        source: Rows that are mappings with an id: a Hugging Face `IterableDataset`, a webdataset
            pipeline, any iterable that begins anew each time; or a function that returns one, such
            as `iter_rows` of Ray Data. If it has a `set_epoch`, that is called before each pass.
        policy: A policy or its name.
        keep: The ids of the samples, and the set to filter the source by.
        epochs: Length of the run, >= 1.
        seed: Of the selections, and of the workers' augmentation (unless `generator` is given).
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. None: as many as the policy keeps.
        steps: Under a budget, the length of the run in batches of each rank, in place of `epochs`.
        batch_size: Samples per batch, on each rank, >= 1.
        accumulation: Batches of one optimizer step, for `total_steps`.
        split: Whether the source on each rank is a part of its own (True), or the whole stream
            (False), of which each rank takes its share of the plan: exact, for as many times the
            reading. Has to be said where there are several ranks.
        collate_fn: Kept rows -> batch, in the worker: the place to decode. None: torch's default.
        generator: Where torch draws the workers' seeds from; None: a generator of the stream's own,
            seeded anew from (seed, epoch) for each pass.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,).
        index_key: Let the index of a sample ride inside its row under this key, for collate
            functions that leave rows out or sort a copy of them. The batch has to have the key too.
        always_keep: Indices of samples that are never pruned.
        losses: Float (n,), a warm start.
        strata: Integers (n,), the class of each sample, for a policy that looks at classes.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        track: Whether to keep visits, mean and spread of each sample's losses (`pruner.table()`),
            and all losses of some (`pruner.trajectories()`); or integers, samples to be among them.
        threads: Threads that choose the samples of an epoch; None: all cores.
        process_group: The processes that train together; None: all of `torch.distributed`.
        **options: Of torch's `DataLoader`, those of `StreamOptions`. `drop_last` concerns epochs
            that keep all samples.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        source: Source,
        policy: Policy | str,
        *,
        keep: KeepSet,
        epochs: int | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        steps: int | None = None,
        batch_size: int = 1,
        accumulation: int = 1,
        split: bool | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        generator: torch.Generator | None = None,
        with_indices: bool = False,
        index_key: str | None = None,
        always_keep: ArrayLike | None = None,
        losses: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        on_epoch: Listener | Iterable[Listener] | None = None,
        count_kept: bool = False,
        track: bool | ArrayLike = False,
        threads: int | None = None,
        process_group: ProcessGroup | DeviceMesh | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        unknown = sorted(options.keys() - StreamOptions.__annotations__.keys())
        if unknown:
            raise TypeError(
                f"PrunedStream has no option {', '.join(unknown)}: it takes its own, and of "
                f"torch's DataLoader {', '.join(StreamOptions.__annotations__)}. The order of the "
                "samples is that of the source"
            )
        if not isinstance(keep, KeepSet):
            raise TypeError(f'keep must be a KeepSet("id", n=...), got {type(keep).__name__}')
        self._made_alone = not group_is_up()
        ranks = ranks_of(process_group)
        size = 1 if ranks is None else ranks.size
        if split is None and size > 1:
            raise ValueError(
                f"split must be given, since {size} ranks train together: True where the source on "
                "each rank is a part of its own, False where it is the whole stream"
            )
        check_source(source, keep.id_column, size, options.get("num_workers", 0))
        self.source, self.batch_size = source, check_batch_size(batch_size)
        self._ledger = ledger = Ledger(keep, bool(split))
        pruner = Pruner(
            keep.n,
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            steps=steps,
            batch_size=self.batch_size,
            drop_last=options.pop("drop_last", False),
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            on_epoch=[ledger.close, *listeners(on_epoch)],
            count_kept=count_kept,
            track=track,
            threads=threads,
            ranks=ranks,
            sharding="replicated",
        )
        ledger.attach(pruner)
        super().__init__(pruner, with_indices=with_indices, accumulation=accumulation)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        collate = IndexedCollate(self.collate_fn, index_key)
        self._reader = Reader(source, keep, self.batch_size, collate)
        # torch draws a seed for its workers in each pass; without a generator, from the global one.
        self._own_generator = torch.Generator(torch.get_default_device())
        options["worker_init_fn"] = SourceInit(options.get("worker_init_fn"))
        self._loader: DataLoader[Any] = DataLoader(
            self._reader,
            batch_size=None,
            collate_fn=as_it_is,
            generator=self._own_generator if generator is None else generator,
            **options,
        )
        keep.serve(self)

    _kind = "stream"

    @property
    def figures(self) -> list[dict[str, int]]:
        """Of each epoch that is over, samples: `planned`, `missing`, `filled` up with, `repeated`.

        With `split=True`, missing ones are known where every rank read its part to the end, as in
        the first epoch.
        """
        return [dict(row) for row in self._ledger.figures]

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass: over the open epoch where none of it was answered, else over the next.

        Raises:
            RuntimeError: All epochs are over; or the last pass was trained without `update`; or the
                stream was made before torch.distributed was initialised.
        """
        if self._made_alone:
            refuse_late_group("PrunedStream")
        return super().__iter__()

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch, see `Loop`."""
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(self.epoch)
        ranks = self._pruner.ranks
        seed = worker_seed(self._pruner, None if ranks is None else ranks.rank)
        self._own_generator.manual_seed(seed)
        return batches_of(self._reader, self._loader, self._ledger)

    def walk_length(self) -> int:
        """Returns how many batches `walk` gives."""
        return -(-self._ledger.wanted // self.batch_size)

    @property
    def _done(self) -> int:
        """None: which samples are done is in the ledger, whatever order they came in."""
        return 0

    def state_dict(self, *, gather: bool = True) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too, for `torch.save`.

        It holds which samples of the open epoch are done, in batches that were answered, and no
        position in the stream: a run that goes on reads the stream from its beginning, and takes
        what is left of the epoch.

        One state serves all ranks. In mid-epoch all of them have to call this; or with
        `gather=False` each has a part: save all of them, and load all.

        Args:
            gather: In mid-epoch, gather what the other ranks have done.

        Raises:
            RuntimeError: The ranks do not agree.
        """
        state = super().state_dict(gather=gather)
        trained = None
        if self._has_begun:  # of an epoch that was only looked at others may not know
            what = f"state_dict() in epoch {self.epoch}: the samples" if gather else None
            trained = self._ledger.trained(self._given.waiting, what)
        return {
            **state,
            "trained": with_tensors(trained),
            "figures": self.figures,
            "ids": self._ledger.ids,
        }

    def load_state_dict(
        self, state: dict[str, Any] | Iterable[dict[str, Any]], *, changed: Iterable[str] = ()
    ) -> None:
        """Goes on from a saved state: the next pass trains what is left of the open epoch.

        The number of ranks may be another than that of the run that was saved.

        Args:
            state: What `state_dict` returned, read with `torch.load(path, weights_only=True)`; the
                states of all ranks, where each had a part.
            changed: What is meant to differ from the run that was saved, as for
                `Pruner.load_state_dict`; or "ids", whose samples are others now.

        Raises:
            ValueError: Something else differs, or it is no such state; nothing is changed then.
        """
        states = [_unpacked(one) for one in upgraded(state, self._kind)]
        changed = check_ids(states[0]["ids"], self._reader.keep, changed)
        trained = check_trained(states)
        super().load_state_dict([one.value for one in states], changed=changed)
        self._ledger.restore(trained)
        self._ledger.figures = [dict(row) for row in states[0].value["figures"]]
        if trained is not None and shuffles(self.source):
            logger.warning(
                "the rest of epoch %d is the same samples as it would have been, but maybe in "
                "another order: a shuffle buffer does not give its rows in the same order again, "
                "unless it is seeded and comes before all filters. Save between two epochs to "
                "resume exactly",
                self.epoch,
            )

    def __getstate__(self) -> NoReturn:
        """Refuses a copy.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a PrunedStream cannot be copied or pickled, since its KeepSet, which the stages of "
            "the source ask, serves one stream: make another one with a KeepSet of its own, and "
            "hand over the state_dict()"
        )
