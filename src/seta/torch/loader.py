"""`PrunedDataLoader`: the ordinary training loop, over the samples that are worth it.

    loader = PrunedDataLoader(dataset, "SeTa", epochs=10, batch_size=128, num_workers=2)
    for epoch in range(10):
        for images, labels in loader:
            losses = cross_entropy(model(images), labels, reduction="none")
            loss = loader.update(losses)
            ...

Where several processes train together, each makes the same loader after `init_process_group`, and
walks through its own share of every epoch. They exchange losses when it ends, and only then.

To whoever asks it is a torch `DataLoader` over the user's own dataset; batches come out of a second
one, which carries the index of each sample beside it. What builds a new loader out of this one's
parts would train without any of this, and is refused when it asks for samples.

Cost on the CPU, for a batch of 128: a few microseconds of loading, some tens of `update`. No step
waits for a device.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict

import torch
from numpy.typing import ArrayLike
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    default_collate,
)
from typing_extensions import Self, Unpack  # torch needs it, too

from seta.engine import Policy, Pruner
from seta.engine.arguments import Listener, Reorder
from seta.engine.steps import Budget
from seta.engine.table.table import Sharding
from seta.torch.arguments import check_batch_size, check_dataset, check_options, order_of
from seta.torch.dataset import IndexedCollate, IndexedDataset, WorkerInit
from seta.torch.given import Indices
from seta.torch.loop import Loop, worker_seed
from seta.torch.ranks import group_is_up, ranks_of, refuse_late_group
from seta.torch.sampler import PrunedSampler


class LoaderOptions(TypedDict, total=False):
    """The options of torch's `DataLoader` that a `PrunedDataLoader` hands on."""

    shuffle: bool | None
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


class PrunedDataLoader(Loop, DataLoader[Any]):
    """A `DataLoader` that trains each epoch on the samples that a policy keeps.

    One pass over it is one epoch. A pass ends the epoch that it finds open, if a batch of it was
    answered, and begins the next; so a `break` ends an epoch too. `set_epoch(e)` says instead which
    epoch the next pass is. A pass that comes to its end with all batches answered ends its epoch
    there and then.

    Every batch is full: an epoch is a whole number of global batches, and only one that keeps all
    samples may have a remainder, as with torch's own loader. Of several processes each gets as many
    batches as the others, in every epoch, and no sample twice.

    Args:
        dataset: Map-style: `len(dataset)` and `dataset[i]` (or `__getitems__`).
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        epochs: Length of the run, >= 1.
        seed: Of the selections, and of the workers' augmentation (unless `generator` is given).
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. Then `total_steps` is known before the first.
            None: as many as the policy keeps.
        steps: Under a budget, the length of the run in batches of each rank, in place of `epochs`.
        batch_size: Samples per batch, on each rank, >= 1.
        accumulation: Batches of one optimizer step, for `total_steps`.
        collate_fn: As torch's; None: torch's default.
        generator: Where torch draws the workers' seeds from; None: a generator of the loader's own,
            seeded anew from (seed, epoch) for each pass.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,), for
            `update(losses, indices=indices)`.
        index_key: Let the index of a sample, a mapping, ride inside it under this key, for collate
            functions that leave rows out or sort a copy of them. The batch has to have the key too.
        always_keep: Indices of samples that are never pruned.
        losses: Float (N,), a warm start: an earlier run's `pruner.losses`.
        strata: Integers (N,), the class of each sample, for a policy that looks at classes.
        reorder: Takes an epoch's indices in random order and returns a permutation of them, to put
            samples of one length into one batch, say.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        track: Whether to keep visits, mean and spread of each sample's losses (`pruner.table()`),
            and all losses of some (`pruner.trajectories()`); or integers, samples to be among them.
        threads: Threads that choose the samples of an epoch; None: all cores.
        process_group: The processes that train together: a torch process group, or one dimension of
            a device mesh (`mesh["dp"]`), so that tensor- and pipeline-parallel processes share what
            they train. None: all of `torch.distributed`, where it is initialised.
        sharding: "replicated": each process holds the losses of all samples. "sharded": each holds
            those of its part of the samples, and trains on that part. None: "sharded" from 100
            million samples on, where there are several processes.
        **options: All other options of `torch.utils.data.DataLoader`, except `sampler` and
            `batch_sampler`. `drop_last` concerns epochs that keep all samples; `shuffle=False` puts
            an epoch's samples into the order of the dataset.

    Attributes:
        dataset: The user's own.
        sampler: The epoch's plan, sample by sample, for its length and its `set_epoch`.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        dataset: Any,
        policy: Policy | str,
        *,
        epochs: int | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        steps: int | None = None,
        batch_size: int = 1,
        accumulation: int = 1,
        collate_fn: Callable[[Any], Any] | None = None,
        generator: torch.Generator | None = None,
        with_indices: bool = False,
        index_key: str | None = None,
        always_keep: ArrayLike | None = None,
        losses: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        reorder: Reorder | None = None,
        on_epoch: Listener | Iterable[Listener] | None = None,
        count_kept: bool = False,
        track: bool | ArrayLike = False,
        threads: int | None = None,
        process_group: ProcessGroup | DeviceMesh | None = None,
        sharding: Sharding | None = None,
        **options: Unpack[LoaderOptions],
    ) -> None:
        others = check_options(options)
        self._made_alone = not group_is_up()
        ranks = ranks_of(process_group)
        pruner = Pruner(
            check_dataset(dataset),
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            steps=steps,
            batch_size=check_batch_size(batch_size),
            drop_last=others.get("drop_last", False),
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            reorder=order_of(others.pop("shuffle", None), reorder),
            on_epoch=on_epoch,
            count_kept=count_kept,
            track=track,
            threads=threads,
            ranks=ranks,
            sharding=sharding,
        )
        Loop.__init__(self, pruner, with_indices=with_indices, accumulation=accumulation)
        self.index_key = index_key
        self._indexed: DataLoader[Any] | None = None  # kept for its persistent workers
        # torch draws a seed for its workers in each pass; without a generator, from the global one.
        self._own_generator = torch.Generator(torch.get_default_device())
        sampler = _LoaderSampler(pruner, share=True)
        sampler.loader = weakref.ref(self)
        DataLoader.__init__(
            self,
            dataset,
            batch_size=pruner.sizes.batch_size,
            sampler=sampler,
            collate_fn=default_collate if collate_fn is None else collate_fn,
            generator=self._own_generator if generator is None else generator,
            **others,
        )

    @classmethod
    def from_loader(cls, loader: DataLoader[Any], policy: Policy | str, **arguments: Any) -> Self:
        """Returns a pruned loader over another one's dataset, with its options.

        Args:
            loader: A `DataLoader` that shuffles, or gives out all samples in order, or an equal
                part of them to each rank (`DistributedSampler`, which is no longer needed).
            policy: As above.
            **arguments: `epochs`, and all others, which take precedence over the loader's options.

        Raises:
            TypeError: It is no `DataLoader`, or over a stream.
            ValueError: Its sampler or batch sampler chooses samples itself.
        """
        if not isinstance(loader, DataLoader):
            raise TypeError(
                f"loader must be a torch DataLoader, got {type(loader).__name__}: give "
                "PrunedDataLoader the dataset and the options"
            )
        if isinstance(loader, PrunedDataLoader) or loader.batch_size is None:
            raise ValueError(
                "loader must be a plain one with a batch_size, got "
                + (
                    "a PrunedDataLoader: it is pruned already"
                    if isinstance(loader, PrunedDataLoader)
                    else "one that has none, or a batch_sampler of its own: give PrunedDataLoader "
                    "its dataset and batch_size=; reorder= says what goes into one batch"
                )
            )
        n, kind = check_dataset(loader.dataset), type(loader.sampler)
        sampler: Any = loader.sampler
        plain = kind in (RandomSampler, SequentialSampler, DistributedSampler)
        partial = getattr(sampler, "replacement", False) or (
            plain and kind is not DistributedSampler and len(sampler) != n
        )
        if not plain or partial:
            raise ValueError(
                "loader must shuffle all its samples or take them in order, got one with "
                f"{kind.__name__}, which takes some, or some of them several times: a policy "
                "decides that here. Class-balanced sampling: give "
                "PrunedDataLoader a policy that looks at classes (RCAP, with strata=); sampling "
                "weights: multiply the losses by them; always_keep= names samples that stay"
            )
        names = inspect.signature(DataLoader).parameters.keys() - {
            "dataset", "sampler", "batch_sampler", "shuffle",
        }  # fmt: skip
        options = {name: getattr(loader, name) for name in names if hasattr(loader, name)}
        ordered = kind is SequentialSampler or getattr(sampler, "shuffle", True) is False
        made = cls(loader.dataset, policy, **{**options, "shuffle": not ordered, **arguments})
        shares = getattr(sampler, "num_replicas", made.pruner.sizes.ranks)
        if shares != made.pruner.sizes.ranks:
            raise ValueError(
                "loader must be for as many ranks as train together, got a DistributedSampler of "
                f"num_replicas={shares} where {made.pruner.sizes.ranks} train: call "
                "init_process_group() first, or give process_group="
            )
        return made

    def __iter__(self) -> Any:
        """Begins a pass: over the open epoch where none of it was answered, else over the next.

        Raises:
            RuntimeError: All epochs are over; or the last pass was trained without `update`; or the
                loader was made before torch.distributed was initialised.
        """
        if self._made_alone:
            refuse_late_group("PrunedDataLoader")
        return super().__iter__()

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next pass walks through; see `Loop`."""
        super().set_epoch(epoch)

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch, see `Loop`."""
        ranks = self._pruner.ranks
        seed = worker_seed(self._pruner, None if ranks is None else ranks.rank)
        self._own_generator.manual_seed(seed)
        return iter(self._indexed_loader())

    def _passed_over(self, indices: Indices, failed: int) -> int:
        """Looks the batch up in the plan: a timeout, say, has cost none."""
        size, start = self._pruner.sizes.batch_size, self._given.count
        share = self._pruner.share()
        for number in range(start, start + failed + 1):
            if len(indices) and indices[0] in share[number * size : (number + 1) * size]:
                return number - start
        return failed

    def _indexed_loader(self) -> DataLoader[Any]:
        """Returns a loader with the options of this one, whose batches know their samples.

        Persistent workers stay with theirs.
        """
        if self._indexed is None or not self.persistent_workers:
            names = inspect.signature(DataLoader).parameters.keys() - {"shuffle", "batch_sampler"}
            options = {name: getattr(self, name) for name in names if hasattr(self, name)}
            self._indexed = DataLoader(
                **{
                    **options,
                    "dataset": IndexedDataset(self.dataset),
                    "sampler": PrunedSampler(self._pruner, share=True),
                    "collate_fn": IndexedCollate(self.collate_fn, self.index_key),
                    "worker_init_fn": WorkerInit(self.worker_init_fn) if self.num_workers else None,
                }
            )
        return self._indexed

    def close(self) -> None:
        """Lets persistent workers go; the next pass starts new ones."""
        self._indexed = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy needs; workers stay with this one.

        So does the generator, seeded anew for each pass: torch hands none to a spawned process.
        """
        own = self.generator is self._own_generator
        state = {**super().__getstate__(), "_indexed": None, "_own_generator": None}
        return {**state, "generator": None} if own else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._own_generator = torch.Generator(torch.get_default_device())
        if self.generator is None:
            self.generator = self._own_generator
        sampler: Any = self.sampler
        sampler.loader = weakref.ref(self)


_LIGHTNING = ("lightning.", "lightning_fabric.", "pytorch_lightning.")  # packages of its Trainer


class _LoaderSampler(PrunedSampler, DistributedSampler[int]):
    """The plan of a `PrunedDataLoader`, to be looked at; the loader alone walks through it.

    It is a `DistributedSampler` to engines that would put one of their own in its place, over all
    samples (Ray, Lightning): each rank has its share already.
    """

    loader: weakref.ref[PrunedDataLoader] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the loader's next pass walks through.

        Raises:
            RuntimeError: Lightning asks, whose Trainer would cut longer epochs and lose the losses
                in a resume. Nothing else of it tells that it is Lightning, on one process.
        """
        if sys._getframe(1).f_globals.get("__name__", "").startswith(_LIGHTNING):
            raise RuntimeError(
                "a PrunedDataLoader cannot be given to Lightning, which takes the length of the "
                "first epoch for all: give trainer.fit the data as PruningCallback(...).loader("
                "dataset, ...), of seta.integrations.lightning; with Fabric leave "
                "setup_dataloaders out"
            )
        loader = None if self.loader is None else self.loader()
        if loader is None:
            super().set_epoch(epoch)
        else:
            loader.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        """Refuses.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            "the samples of a PrunedDataLoader were asked for by another loader, made of its "
            "parts (accelerator.prepare, ray.train.torch.prepare_data_loader, Lightning's "
            "distributed sampler): losses would find no sample. Iterate over the PrunedDataLoader "
            "itself; frameworks that rebuild loaders have one of their own in seta.integrations. "
            "The plan of an epoch is loader.pruner.selection"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "loader": None}
