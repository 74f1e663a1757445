"""`PrunedDataLoader`: a `DataLoader` over the samples that a policy keeps.

    loader = PrunedDataLoader(dataset, "SeTa", epochs=10, batch_size=128, num_workers=2)
    for epoch in range(10):
        for images, labels in loader:
            losses = cross_entropy(model(images), labels, reduction="none")
            loss = loader.update(losses)
            ...

If several processes train together, each makes the same loader after `init_process_group` and gets
its own share of every epoch. They exchange losses at the end of an epoch, and only there.

The loader is a torch `DataLoader` over the user's own dataset. Batches come from a second, internal
one, which returns the indices of the samples with each batch. Code that builds a new loader from
the parts of this one would lose the indices; it gets an error when it asks for samples.

CPU cost for a batch of 128: a few microseconds for loading, some tens for `update`. No step waits
for a device.
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
from seta.torch.loop import Loop
from seta.torch.passes import worker_seed
from seta.torch.ranks import group_is_up, ranks_of, refuse_late_group
from seta.torch.sampler import PrunedSampler


class LoaderOptions(TypedDict, total=False):
    """The options of torch's `DataLoader` that a `PrunedDataLoader` accepts."""

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
    """A `DataLoader` that yields, in each epoch, the samples that a policy keeps.

    Call `update` with the per-sample losses of each batch; it records them and returns the loss for
    `backward()`.

    - Training: iteration, `update`, `weights`, `skip`, `set_epoch`, `end_epoch`, `flush`, `close`.
    - Lengths: `len(loader)`, `total_steps`, `total_batches`, `epoch`, `epochs`, `position`,
      `progress`.
    - The run: `pruner`, with `history`, `losses`, `table()` and more.
    - Saving: `state_dict`, `load_state_dict`.
    - Making one: the constructor, `from_loader`. For subclasses: `walk`, `walk_length`.

    One pass over the loader is one epoch. A new pass ends the open epoch if one of its batches was
    answered (by `update` or `skip`), and begins the next; so a `break` ends an epoch too.
    `set_epoch(e)` sets the epoch of the next pass instead. A pass that ends with all batches
    answered ends its epoch at once.

    Every batch is full: an epoch is a whole number of global batches, except that an epoch which
    keeps all samples may have a remainder, as with torch's own loader. With several processes, all
    get equally many batches in every epoch, and no sample twice.

    Args:
        dataset: Map-style dataset of N samples, with `len(dataset)` and `dataset[i]` (or
            `__getitems__`).
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa" (with default
            arguments, or under a budget with those for it), or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
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
        collate_fn: Makes a batch of a list of samples. None: torch's default.
        generator: Generator of the workers' base seeds. None: the loader's own, seeded from (seed,
            epoch) for each pass.
        with_indices: Whether to yield `(indices, batch)`, indices int64 (B,), for
            `update(losses, indices=indices)`.
        index_key: Adds the index to each sample, a mapping, under this key; for a `collate_fn` that
            drops samples or reorders a copy of them. The batch must have the key too.
        always_keep: Indices of samples that are never pruned, integers.
        losses: Initial losses, float (N,), NaN = unseen; for example an earlier run's
            `pruner.losses`.
        strata: Class of each sample, integers (N,) from 0 on, for policies that look at classes.
        reorder: Function of an epoch's indices in random order that returns a permutation of them;
            to batch samples of similar length, for example.
        on_epoch: Function, or several, called with each epoch's row when the epoch ends.
        count_kept: Whether to count how often each sample was kept, for `pruner.kept_counts`.
        track: Whether to keep the number, mean and standard deviation of each sample's losses, for
            `pruner.table()` and `pruner.suspects()`, and the losses of some samples in every epoch,
            for `pruner.trajectories()`. Indices: True, and the trajectories include these samples.
        threads: Number of threads that select an epoch's samples. None: all cores.
        process_group: The processes that train together: a torch process group, or one dimension of
            a device mesh (`mesh["dp"]`), so that tensor- and pipeline-parallel processes train the
            same samples. None: all processes of `torch.distributed`, if it is initialised.
        sharding: "replicated": each process holds all losses. "sharded": each process holds the
            losses of one part of the samples and trains on that part. None: "sharded" with several
            processes and at least 100 million samples, else "replicated".
        **options: All other options of `torch.utils.data.DataLoader`, except `sampler` and
            `batch_sampler`. `drop_last` drops the remainder of an epoch that keeps all samples;
            `shuffle=False` keeps the order of the dataset.

    Attributes:
        dataset: The dataset, as given.
        sampler: Has `len` and `set_epoch`; cannot be iterated.

    Raises:
        TypeError, ValueError: An argument is invalid; the message names it.

    Examples:
        >>> from torch.nn.functional import cross_entropy
        >>> from torch.utils.data import TensorDataset
        >>> dataset = TensorDataset(torch.rand(64, 4), torch.arange(64) % 2)
        >>> model = torch.nn.Linear(4, 2)
        >>> loader = PrunedDataLoader(dataset, "InfoBatch", epochs=2, batch_size=16)
        >>> for epoch in range(2):
        ...     for inputs, targets in loader:
        ...         losses = cross_entropy(model(inputs), targets, reduction="none")
        ...         loader.update(losses).backward()
        >>> len(loader.pruner.history)
        2
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
        """Returns a pruned loader with the dataset and options of a plain `DataLoader`.

        Args:
            loader: A `DataLoader` that shuffles, or yields all samples in order, or has a
                `DistributedSampler` (which is no longer needed).
            policy: The method, as for the constructor.
            **arguments: `epochs` and further arguments of the constructor; they take precedence
                over the loader's options.

        Raises:
            TypeError: `loader` is not a `DataLoader`, or its dataset is iterable-style.
            ValueError: Its sampler or batch sampler selects samples itself.
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
        plain |= kind.__module__ == "torchdata.stateful_dataloader.sampler"  # its RandomSampler
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
        if arguments.get("num_workers") == 0:  # torch takes no options of workers without them
            names -= {"prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context"}
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
        """Begins a pass over the open epoch if none of its batches was answered, else the next.

        Raises:
            RuntimeError: The last pass was trained without `update`, the dataset has another length
                than before, or the loader was made before torch.distributed was initialised. If
                all epochs are over, the first batch raises.
        """
        if self._made_alone:
            refuse_late_group("PrunedDataLoader")
        n = check_dataset(self.dataset)
        if n != self._pruner.n:
            raise RuntimeError(
                f"dataset has {n} samples, and had {self._pruner.n} before: for one that grows or "
                f"shrinks at its end, call loader.pruner.resize({n}) between two epochs, and "
                "loader.close() if its workers are persistent, as they hold copies"
            )
        return super().__iter__()

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next pass; see `Loop.set_epoch`."""
        super().set_epoch(epoch)

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch; see `Loop.walk`."""
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
        """Returns a loader with the options of this one, whose batches carry their indices.

        It is kept for persistent workers.
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
        """Stops persistent workers; the next pass starts new ones."""
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
    """The sampler of a `PrunedDataLoader`, for its length and `set_epoch`; it cannot be iterated.

    It is a `DistributedSampler`, so that frameworks (Ray, Lightning) do not replace it by one of
    their own over all samples: each rank has its share already.
    """

    loader: weakref.ref[PrunedDataLoader] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the loader's next pass.

        Raises:
            RuntimeError: Lightning calls it, whose Trainer would cut longer epochs, and lose the
                losses in a resume. On one process, nothing else shows that it is Lightning.
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
