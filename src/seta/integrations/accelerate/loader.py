"""The loader that a training loop under Accelerate goes over, and answers.

It is a `Loop`, as `PrunedDataLoader` is; but the loader that it holds has been prepared, every
process is given the whole order, and losses are exchanged between the accelerator's processes.
Cost: that of both loaders; one exchange per epoch.
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
    """A loader that trains each epoch on the samples that a policy keeps, under Accelerate.

    One pass over it is one epoch, as over a `PrunedDataLoader`, and so are `update`, `weights`,
    `skip`, `set_epoch` and `end_epoch`. It makes and prepares its own `DataLoader`: there is none
    to give to `accelerator.prepare`, which leaves this object as it is. As long as it is there, it
    is registered for `accelerator.save_state` and `load_state`; all processes call them, in
    mid-epoch as between two.

    All processes get equally many batches, of one size. Only an epoch that keeps every sample may
    have a remainder: where several processes train, it is filled up with samples of the epoch's
    first batches, as Accelerate does it, and these count once; with `drop_last` it is left out.

    Args:
        accelerator: The run's; set up before, processes and accumulation included.
        dataset: Map-style: `len(dataset)` and `dataset[i]` (or `__getitems__`).
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        epochs: Length of the run, >= 1.
        seed: Of the selections, and of the workers' augmentation (unless `generator` is given).
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. Then `total_steps` is known before the first.
            None: as many as the policy keeps.
        steps: Under a budget, the length of the run in batches of each process, in place of
            `epochs`.
        batch_size: Samples per batch of one process; with `split_batches` of all together.
        collate_fn: As torch's; None: torch's default.
        generator: Where torch draws the workers' seeds from; None: a generator of the loader's own,
            seeded anew from (seed, epoch, process) for each pass.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,) on the CPU, for
            `update(losses, indices=indices)`.
        index_key: Let the index of a sample, a mapping, ride inside it under this key, for collate
            functions that leave rows out or sort a copy of them. The batch has to have the key too.
        always_keep: Indices of samples that are never pruned.
        losses: Float (N,), a warm start: an earlier run's `pruner.losses`.
        strata: Integers (N,), the class of each sample, for a policy that looks at classes.
        reorder: Takes an epoch's indices in random order and returns a permutation of them.
        on_epoch: Called in each process with the row of each epoch that ends; one or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        track: Whether to keep visits, mean and spread of each sample's losses (`pruner.table()`),
            and all losses of some (`pruner.trajectories()`); or integers, samples to be among them.
        threads: Threads that choose the samples of an epoch; None: all cores.
        changed: What is meant to differ from the run that `accelerator.load_state` restores, as for
            `load_state_dict`.
        **options: All other options of `torch.utils.data.DataLoader`, as for `PrunedDataLoader`.

    Attributes:
        dataset: The user's own.
        batch_size: As given.
        collate_fn: The user's own, or torch's default.

    Raises:
        TypeError, ValueError: An argument is not allowed, or does not go with how the accelerator
            was set up; the message says what does.
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
        """Optimizer steps of the whole run under the accelerator's gradient accumulation.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        batches, group = self._lengths("total_steps"), int(self._gradients.num_steps)
        if self._gradients.sync_with_dataloader:
            return sum(-(-count // group) for count in batches)
        return sum(batches) // group

    @property
    def schedule_steps(self) -> int:
        """The length of a learning-rate schedule that goes through `accelerator.prepare`.

        Such a schedule moves with the optimizer, once for each process (or once altogether, with
        `split_batches`).

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return self._moves * self.total_steps if self._moves_with_optimizer else self.total_batches

    @property
    def sampler(self) -> NoReturn:
        """Where `skip_first_batches` would look; there is nothing to skip.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(
            "PrunedAccelerateLoader has no sampler to skip batches of "
            "(accelerate.skip_first_batches): after accelerator.load_state() the next pass over it "
            "gives out what is left of the epoch. Iterate over it as it is, and start the loop at "
            "loader.pruner.next_epoch"
        )

    def __getstate__(self) -> NoReturn:
        """Refuses copies, which would share the accelerator's state.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a PrunedAccelerateLoader cannot be copied or pickled, since what Accelerate has "
            "prepared cannot: make one in each process, and hand over its state_dict()"
        )

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch, see `Loop`."""
        pruner = self._pruner
        self._rows.total_dataset_length = pruner.kept - pruner.done
        rank = None if pruner.ranks is None else pruner.ranks.rank
        self._own_generator.manual_seed(worker_seed(pruner, rank))
        self._loader.set_epoch(pruner.epoch)
        return with_bytes(self._loader) if self.walk_length() else iter(())

    def walk_length(self) -> int:
        """Returns how many batches `walk` gives."""
        return self._batches_of(self._pruner.kept - self._pruner.done)

    def _batches_of(self, samples: int) -> int:
        return -(-samples // self._pruner.sizes.global_batch)
