"""`PrunedAccelerateLoader`: the loader for a training loop under Accelerate.

It is a `Loop` like `PrunedDataLoader`. But its inner loader was prepared by the accelerator, each
process reads the whole order, and losses are exchanged between the accelerator's processes.
Cost: that of both loaders, and one exchange per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]
from numpy.typing import ArrayLike
from torch.utils.data import DataLoader, default_collate

from seta.engine import Policy, Pruner
from seta.engine.arguments import Listener, Reorder
from seta.engine.steps import Budget
from seta.integrations.accelerate.checks import batch_of_process, check, ranks_of_accelerator
from seta.integrations.accelerate.order import Order, Rows, TensorCollate, with_bytes
from seta.integrations.accelerate.registered import Registered, take_out
from seta.torch.arguments import check_batch_size, check_dataset, check_options, order_of
from seta.torch.dataset import IndexedCollate, WorkerInit
from seta.torch.loader import LoaderOptions
from seta.torch.loop import Loop
from seta.torch.passes import worker_seed

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PrunedAccelerateLoader(Loop):
    """A pruned loader for Accelerate: yields, in each epoch, the samples that a policy keeps.

    Use it like `seta.PrunedDataLoader`; one pass is one epoch. It makes and prepares its own
    `DataLoader`, so there is none to pass to `accelerator.prepare` (which would leave this object
    unchanged). While it exists, it is registered for `accelerator.save_state` and `load_state`; all
    processes must call these, between epochs or within one.

    - Training: iteration, `update`, `weights`, `skip`, `set_epoch`, `end_epoch`, `flush`.
    - Lengths: `len(loader)`, `total_steps`, `total_batches`, `schedule_steps`, `epoch`, `epochs`,
      `position`, `progress`.
    - The run: `pruner`.
    - Saving, if not by the accelerator: `state_dict`, `load_state_dict`.

    All processes get equally many batches of equal size. Only an epoch that keeps all samples may
    have a remainder. With several processes it is filled up with samples of the epoch's first
    batches, as Accelerate does; these are counted once. With `drop_last` it is dropped.

    Args:
        accelerator: The `Accelerator` of the run, with its processes and gradient accumulation set
            up.
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
        steps: Length of the run in batches per process, >= 1; only with a budget, in place of
            `epochs`.
        batch_size: Samples per batch and process, >= 1; with `split_batches`, of all processes
            together.
        collate_fn: Makes a batch of a list of samples. None: torch's default.
        generator: Generator of the workers' base seeds. None: the loader's own, seeded from (seed,
            epoch, process) for each pass.
        with_indices: Whether to yield `(indices, batch)`, indices int64 (B,) on the CPU, for
            `update(losses, indices=indices)`.
        index_key: Adds the index to each sample, a mapping, under this key; for a `collate_fn` that
            drops samples or reorders a copy of them. The batch must have the key too.
        always_keep: Indices of samples that are never pruned, integers.
        losses: Initial losses, float (N,), NaN = unseen; for example an earlier run's
            `pruner.losses`.
        strata: Class of each sample, integers (N,) from 0 on, for policies that look at classes.
        reorder: Function of an epoch's indices in random order that returns a permutation of them.
        on_epoch: Function, or several, called in each process with each epoch's row when the epoch
            ends.
        count_kept: Whether to count how often each sample was kept, for `pruner.kept_counts`.
        track: Whether to keep the number, mean and standard deviation of each sample's losses, for
            `pruner.table()` and `pruner.suspects()`, and the losses of some samples in every epoch,
            for `pruner.trajectories()`. Indices: True, and the trajectories include these samples.
        threads: Number of threads that select an epoch's samples. None: all cores.
        changed: Names of arguments that may differ from those of the run that
            `accelerator.load_state` restores, as for `load_state_dict`.
        **options: All other options of `torch.utils.data.DataLoader`, as for `PrunedDataLoader`.

    Attributes:
        dataset: The dataset, as given.
        batch_size: The batch size, as given.
        collate_fn: The collate function, or torch's default.

    Raises:
        TypeError, ValueError: An argument is invalid, or not possible with the settings of the
            accelerator; the message names it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        dataset: Any,
        policy: Policy | str,
        *,
        epochs: int | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        steps: int | None = None,
        batch_size: int = 1,
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
        changed: Iterable[str] = (),
        **options: Unpack[LoaderOptions],
    ) -> None:
        check(accelerator)
        others = check_options(options, type(self).__name__)
        self.dataset, self.batch_size = dataset, check_batch_size(batch_size)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        pruner = Pruner(
            check_dataset(dataset),
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            steps=steps,
            batch_size=batch_of_process(accelerator, self.batch_size),
            drop_last=others.pop("drop_last", False),
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            reorder=order_of(others.pop("shuffle", None), reorder),
            on_epoch=on_epoch,
            count_kept=count_kept,
            track=track,
            threads=threads,
            ranks=ranks_of_accelerator(accelerator),
            sharding="replicated",
        )
        super().__init__(pruner, with_indices=with_indices)
        self.in_order = others.get("in_order", True)
        # Not the accelerator, which outlives this object: the settings that say how schedules move.
        self._gradients = accelerator.gradient_state
        self._moves = 1 if accelerator.split_batches else int(accelerator.num_processes)
        self._moves_with_optimizer = bool(accelerator.step_scheduler_with_optimizer)
        self._rows = Rows(dataset)
        # torch draws a seed for its workers in each pass; without a generator, from the global one.
        self._own_generator = torch.Generator(torch.get_default_device())
        # What is dispatched is cut up by the accelerator, which can cut tensors only.
        dispatched = bool(accelerator.dispatch_batches)
        collate = TensorCollate if dispatched else IndexedCollate
        if others.get("num_workers"):
            others["worker_init_fn"] = WorkerInit(others.get("worker_init_fn"))
        sizes = pruner.sizes
        loader: DataLoader[Any] = DataLoader(
            self._rows,
            batch_size=self.batch_size,
            sampler=Order(pruner, sizes.ranks if dispatched else sizes.global_batch),
            collate_fn=collate(self.collate_fn, index_key),
            generator=self._own_generator if generator is None else generator,
            **others,
        )
        self._loader = accelerator.prepare_data_loader(loader)
        take_out(accelerator._dataloaders, self._loader)  # workers end when this object goes
        if dispatched:  # a dispatcher drops the generator, and would draw from torch's global one
            self._loader.base_dataloader.generator = loader.generator
        Registered(accelerator, self, changed)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, with the accelerator's gradient accumulation.

        Raises:
            RuntimeError: There is no budget, so the number is not known.
        """
        batches, group = self._lengths("total_steps"), int(self._gradients.num_steps)
        if self._gradients.sync_with_dataloader:
            return sum(-(-count // group) for count in batches)
        return sum(batches) // group

    @property
    def schedule_steps(self) -> int:
        """Length of a learning-rate schedule that is passed to `accelerator.prepare`.

        Accelerate steps such a schedule with the optimizer, once for each process (or once in
        total, with `split_batches`).

        Raises:
            RuntimeError: There is no budget, so the number is not known.
        """
        return self._moves * self.total_steps if self._moves_with_optimizer else self.total_batches

    @property
    def sampler(self) -> NoReturn:
        """Not available; `accelerate.skip_first_batches` would use it to skip batches twice.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(
            "PrunedAccelerateLoader has no sampler to skip batches of "
            "(accelerate.skip_first_batches): after accelerator.load_state() the next pass over it "
            "yields the rest of the epoch. Iterate over it directly, and start the loop at "
            "loader.pruner.next_epoch"
        )

    def __getstate__(self) -> NoReturn:
        """Refuses copies, which would share the accelerator's state.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a PrunedAccelerateLoader cannot be copied or pickled, since its prepared loader "
            "cannot: make one in each process, and pass on its state_dict()"
        )

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch; see `Loop.walk`."""
        pruner = self._pruner
        self._rows.total_dataset_length = pruner.kept - pruner.done
        rank = None if pruner.ranks is None else pruner.ranks.rank
        self._own_generator.manual_seed(worker_seed(pruner, rank))
        self._loader.set_epoch(pruner.epoch)
        return with_bytes(self._loader) if self.walk_length() else iter(())

    def walk_length(self) -> int:
        """Returns the number of batches that `walk` yields."""
        return self._batches_of(self._pruner.kept - self._pruner.done)

    def _batches_of(self, samples: int) -> int:
        return -(-samples // self._pruner.sizes.global_batch)
