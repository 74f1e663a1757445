"""`PrunedStream`: a loader over a stream that leaves out pruned samples.

It gets each epoch's selection from its `Pruner`, passes it to the data-loading workers by a
`KeepSet`, and yields batches; everything else is as in `PrunedDataLoader`, which is for datasets
with random access. All ranks yield equally many batches, see `ledger`.

Cost in the training process: about 80 microseconds per batch of 128. Pruned samples are still read.
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
    """The options of torch's `DataLoader` that a `PrunedStream` accepts."""

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
    """A loader over a stream that yields, in each epoch, the samples that a policy keeps.

    One pass over it is one epoch. Use it like `seta.PrunedDataLoader`:

    - Training: iteration, `update`, `weights`, `skip`, `set_epoch`, `end_epoch`, `flush`.
    - Lengths: `len(stream)`, `total_steps`, `total_batches`, `epoch`, `epochs`, `position`,
      `progress`.
    - The run: `pruner`, `figures`.
    - Saving: `state_dict`, `load_state_dict`.

    An epoch is a number of full batches, the same on all ranks, known when it begins (under a
    budget, before the run begins). If `split` is True and the part of a rank has more of the
    epoch's samples than that, the last ones of the part are left for another epoch. If a part has
    fewer, it is read again and filled up with pruned samples, each once; only a part that is too
    small for this repeats samples. `figures` has the numbers.

    Args:
        source: Rows that are mappings with an id: a Hugging Face `IterableDataset`, a webdataset
            pipeline, any iterable that can be iterated again; or a function that returns one, such
            as `iter_rows` of Ray Data. Its `set_epoch`, if any, is called before each reading.
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa" (with default
            arguments, or under a budget with those for it), or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
        keep: The `KeepSet` that the source is filtered by, with the ids of the samples.
        epochs: Length of the run in epochs, >= 1. None: `steps` gives the length.
        seed: Seed of the selections and of the workers' random states (unless `generator` is
            given).
        budget: Share of full training's sample visits that the run may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. It fixes the length of every epoch in
            advance, so that `total_steps` is exact. None: the policy decides, and lengths vary.
        steps: Length of the run in batches per rank, >= 1; only with a budget, in place of
            `epochs`.
        batch_size: Samples per batch and rank, >= 1.
        accumulation: Batches per optimizer step, for `total_steps`.
        split: Whether the source on each rank is a part of the stream (True), or the whole stream
            (False). With False each rank trains its exact share of the selection, but all ranks
            read everything. Required with several ranks.
        collate_fn: Makes a batch of a list of kept rows; decode samples here. It runs in a worker,
            and for what workers have left over in the process that trains. None: torch's default.
        generator: Generator of the workers' base seeds. None: the stream's own, seeded from (seed,
            epoch) for each pass.
        with_indices: Whether to yield `(indices, batch)`, indices int64 (B,), for
            `update(losses, indices=indices)`.
        index_key: Adds the index to each row under this key; for a `collate_fn` that drops rows or
            reorders a copy of them. The batch must have the key too.
        always_keep: Indices of samples that are never pruned, integers.
        losses: Initial losses, float (N,), NaN = unseen; for example an earlier run's
            `pruner.losses`.
        strata: Class of each sample, integers (N,) from 0 on, for policies that look at classes.
        on_epoch: Function, or several, called with each epoch's row when the epoch ends.
        count_kept: Whether to count how often each sample was kept, for `pruner.kept_counts`.
        track: Whether to keep the number, mean and standard deviation of each sample's losses, for
            `pruner.table()` and `pruner.suspects()`, and the losses of some samples in every epoch,
            for `pruner.trajectories()`. Indices: True, and the trajectories include these samples.
        threads: Number of threads that select an epoch's samples. None: all cores.
        process_group: The processes that train together. None: all processes of
            `torch.distributed`.
        **options: Options of torch's `DataLoader`, those of `StreamOptions`. `drop_last` drops the
            remainder of an epoch that keeps all samples.

    Raises:
        TypeError, ValueError: An argument is invalid; the message names it.
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
                f"PrunedStream has no option {', '.join(unknown)}: besides its own, it takes these "
                f"of torch's DataLoader: {', '.join(StreamOptions.__annotations__)}. The order of "
                "the samples is that of the source"
            )
        if not isinstance(keep, KeepSet):
            raise TypeError(f'keep must be a KeepSet("id", n=...), got {type(keep).__name__}')
        self._made_alone = not group_is_up()
        ranks = ranks_of(process_group)
        size = 1 if ranks is None else ranks.size
        if split is None and size > 1:
            raise ValueError(
                f"split must be given, since {size} ranks train together: True if the source on "
                "each rank is a part of the stream, False if it is the whole stream"
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
        """Numbers of samples per epoch: `planned`, `missing`, `filled` up with, and `repeated`.

        One dict per epoch that is over. With `split=True`, missing samples are known only for
        epochs in which every rank read its part to the end, such as the first.
        """
        return [dict(row) for row in self._ledger.figures]

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass over the open epoch if none of its batches was answered, else the next.

        Raises:
            RuntimeError: The last pass was trained without `update`, or the stream was made before
                torch.distributed was initialised. If all epochs are over, the first batch raises.
        """
        if self._made_alone:
            refuse_late_group("PrunedStream")
        return super().__iter__()

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch; see `Loop.walk`."""
        ranks = self._pruner.ranks
        seed = worker_seed(self._pruner, None if ranks is None else ranks.rank)
        self._own_generator.manual_seed(seed)
        return batches_of(self._reader, self._loader, self._ledger, self.epoch)

    def walk_length(self) -> int:
        """Returns the number of batches that `walk` yields."""
        return -(-self._ledger.wanted // self.batch_size)

    @property
    def _done(self) -> int:
        """None: which samples are done is in the ledger, whatever order they came in."""
        return 0

    def state_dict(self, *, gather: bool = True) -> dict[str, Any]:
        """Returns the state to resume from, between epochs or within one, for `torch.save`.

        It has the samples of the open epoch whose batches were answered, but no position in the
        stream: a resumed run reads the stream from its beginning and trains the rest of the epoch.

        One state serves all ranks. Within an epoch all ranks must call this; with `gather=False`
        each rank has a part: save all parts, and load all.

        Args:
            gather: Within an epoch, whether to gather what the other ranks have trained.

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
        """Resumes from a saved state: the next pass yields the rest of the open epoch.

        The number of ranks may have changed.

        Args:
            state: The return value of `state_dict`, loaded with
                `torch.load(path, weights_only=True)`; the states of all ranks if each had a part.
            changed: Names of arguments that may differ from those of the saved run, as for
                `Pruner.load_state_dict`; or "ids", if the ids of the samples have changed.

        Raises:
            ValueError: Another argument differs, or the state is invalid; nothing is changed.
        """
        states = [_unpacked(one) for one in upgraded(state, self._kind)]
        changed = check_ids(states[0]["ids"], self._reader.keep, changed)
        trained = check_trained(states)
        super().load_state_dict([one.value for one in states], changed=changed)
        self._ledger.restore(trained)
        self._ledger.figures = [dict(row) for row in states[0].value["figures"]]
        if trained is not None and shuffles(self.source):
            logger.warning(
                "the rest of epoch %d has the same samples as before, but maybe in another order: "
                "a shuffle buffer yields its rows in the same order only if it is seeded and comes "
                "before all filters. Save between two epochs to resume exactly",
                self.epoch,
            )

    def __getstate__(self) -> NoReturn:
        """Refuses a copy.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a PrunedStream cannot be copied or pickled, since its KeepSet, which filters the "
            "source, serves one stream: make another one with a KeepSet of its own, and pass on "
            "the state_dict()"
        )
