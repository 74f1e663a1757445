"""The loader that a training loop under Accelerate goes over, and answers.

What it shares with `PrunedDataLoader` it does in the same way, on the same `Course`; but the loader
that it holds has been prepared, every process is given the whole order, and losses are exchanged
between the accelerator's processes. Cost: that of both loaders; one exchange per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from seta.engine import Policy, Pruner
from seta.engine.budget import Budget
from seta.engine.rows import Row
from seta.integrations.accelerate.checks import check, ranks_of_accelerator
from seta.integrations.accelerate.order import Order, Rows, TensorCollate, with_bytes
from seta.torch.arguments import check_batch_size, check_dataset
from seta.torch.course import Course, Pass
from seta.torch.dataset import IndexedCollate
from seta.torch.eager import eager
from seta.torch.state import with_arrays, with_tensors


class Pruning:
    """A loader that trains each epoch on the samples that a policy keeps, under Accelerate.

    One pass over it is one epoch, as over a `PrunedDataLoader`, and so are `update`, `skip`,
    `set_epoch` and `end_epoch`. It makes and prepares its own `DataLoader`: there is none to give
    to `accelerator.prepare`, which leaves this object as it is. It registers itself for
    `accelerator.save_state` and `load_state`; all processes call them, in mid-epoch as between two.

    All processes get equally many batches, of one size. Under a budget epochs are counted in global
    batches, so that comes by itself. Without, where several processes train, the last global batch
    of an epoch is filled up with samples of its first, as Accelerate does it: these are trained
    twice, and counted as trained twice. With `drop_last` it is left out.

    Args:
        accelerator: The run's; set up before, processes and accumulation included.
        dataset: Map-style: `len(dataset)` and `dataset[i]` (or `__getitems__`).
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        epochs: Length of the run, >= 1.
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. Then `total_steps` is known before the first.
            None: as many as the policy keeps.
        seed: Of the selections, and of the workers' augmentation (unless `generator` is given).
        batch_size: Samples per batch of one process; with `split_batches` of all together.
        collate_fn: As torch's; None: torch's default.
        generator: Where torch draws the workers' seeds from; None: a generator of its own, seeded
            anew from (seed, epoch, process) for each pass.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,) on the CPU, for
            `update(losses, indices=indices)`.
        always_keep: Indices of samples that are never pruned.
        losses: Float (N,), a warm start: an earlier run's `pruner.losses`.
        strata: Integers (N,), the class of each sample, for a policy that looks at classes.
        reorder: Takes an epoch's indices in random order and returns a permutation of them.
        on_epoch: Called in each process with the row of each epoch that ends; one or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        **options: All other options of `torch.utils.data.DataLoader`, except `sampler`,
            `batch_sampler` and `shuffle`.

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
        epochs: int,
        budget: Budget | None,
        seed: int = 0,
        batch_size: int = 1,
        collate_fn: Callable[[Any], Any] | None = None,
        generator: torch.Generator | None = None,
        with_indices: bool = False,
        always_keep: ArrayLike | None = None,
        losses: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        reorder: Callable[[NDArray[Any]], ArrayLike] | None = None,
        on_epoch: Callable[[Row], object] | Iterable[Callable[[Row], object]] | None = None,
        count_kept: bool = False,
        **options: Any,
    ) -> None:
        self._drop_last = bool(options.get("drop_last"))
        check(accelerator, options, even=budget is not None or self._drop_last)
        self.dataset = dataset
        self.batch_size = check_batch_size(batch_size)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        self._with_indices = with_indices
        # Not the accelerator, which holds this object: in a cycle, workers end late, by 5 s each.
        self._gradients = accelerator.gradient_state
        self._process, processes = int(accelerator.process_index), int(accelerator.num_processes)
        self._moves = 1 if accelerator.split_batches else processes  # of a schedule, per step
        self._moves_with_optimizer = bool(accelerator.step_scheduler_with_optimizer)
        self._global_batch = self.batch_size * self._moves
        n = check_dataset(dataset)
        if budget is not None and processes > 1 and n < self._global_batch:
            raise ValueError(
                f"batch_size must leave a whole global batch, got batch_size={batch_size} for "
                f"{processes} processes and {n} samples, of which {self._global_batch} make one: "
                "under a budget epochs are counted in global batches. Give smaller batches, or "
                "budget=None"
            )
        pruner = Pruner(
            n,
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            unit=self._global_batch if self._drop_last or processes > 1 else 1,
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            reorder=reorder,
            on_epoch=on_epoch,
            count_kept=count_kept,
            ranks=ranks_of_accelerator(accelerator),
            sharding="replicated",
        )
        self._course = Course(pruner)
        # What is dispatched is cut up by the accelerator, which can cut tensors only.
        dispatched = bool(accelerator.dispatch_batches)
        collate = TensorCollate if dispatched else IndexedCollate
        even = 1 if self._drop_last else processes if dispatched else self._global_batch
        self._rows = Rows(dataset)
        # torch draws a seed for its workers in each pass; without a generator, from the global one.
        self._own_generator = torch.Generator(torch.get_default_device())
        loader: DataLoader[Any] = DataLoader(
            self._rows,
            batch_size=self.batch_size,
            sampler=Order(self._course, 1 if processes == 1 else even),
            collate_fn=collate(self.collate_fn),
            generator=self._own_generator if generator is None else generator,
            **options,
        )
        self._loader = accelerator.prepare_data_loader(loader)
        if dispatched:  # a dispatcher drops the generator, and would draw from torch's global one
            self._loader.base_dataloader.generator = loader.generator
        accelerator.register_for_checkpointing(self)

    # What can be looked at.

    @property
    def pruner(self) -> Pruner:
        """The pruner, all losses handed over recorded (on a device this waits, see `flush`)."""
        self.flush()
        return self._course.pruner

    @property
    def epoch(self) -> int:
        """The open epoch; between two the next one, after the run the last one."""
        return self._course.shown_epoch

    @property
    def total_steps(self) -> int:
        """Batches of the whole run in each process, exact before it starts.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        return self._course.total_batches(self._batches_of)

    @property
    def schedule_steps(self) -> int:
        """The length of a learning-rate schedule that goes through `accelerator.prepare`.

        Such a schedule moves with the optimizer, once for each process (or once altogether, with
        `split_batches`); so this counts optimizer steps under the accelerator's gradient
        accumulation, times the processes.

        Raises:
            RuntimeError: There is no budget, so nobody knows.
        """
        batches = self._course.batches_of_epochs(self._batches_of, "schedule_steps")
        if not self._moves_with_optimizer:
            return sum(batches)
        group = int(self._gradients.num_steps)
        if self._gradients.sync_with_dataloader:
            return self._moves * sum(-(-count // group) for count in batches)
        return self._moves * (sum(batches) // group)

    @property
    def progress(self) -> float:
        """The share of the run that has been given out, in epochs: 0 before it, 1 at its end."""
        course = self._course
        if course.epoch is None:
            return course.next_epoch / course.epochs
        length = len(course.begin_epoch())
        whole = self._batches_of(length) * self._global_batch if self._drop_last else length
        done = min(course.resumed + course.unanswered.given * self._global_batch, whole)
        return (course.epoch + (done / whole if whole else 1.0)) / course.epochs

    def __len__(self) -> int:
        """Batches in the open epoch; begins the next if none is open and the run is not over."""
        return len(self._loader)

    # The life of an epoch.

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass over an epoch.

        Raises:
            RuntimeError: All epochs are over.
        """
        course = self._course
        course.start()
        rest = max(0, len(course.begin_epoch()) - course.resumed)
        self._rows.total_dataset_length = rest
        key = (course.pruner.seed, self.epoch, _WORKERS, self._process)
        seed = np.random.SeedSequence(key).generate_state(1, np.uint64)
        self._own_generator.manual_seed(int(seed[0] >> np.uint64(1)))
        self._loader.set_epoch(self.epoch)
        batches = with_bytes(self._loader) if self._batches_of(rest) else iter(())
        return Pass(course, batches, self._with_indices)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next pass walks through.

        Another epoch that is open ends, an exchange for which all processes call this; asking twice
        for one epoch changes nothing.

        Raises:
            ValueError: The epoch is over already, or there is no such epoch.
        """
        self._course.begin_epoch(epoch)

    def end_epoch(self) -> Row:
        """Ends the open epoch, as the next pass would; for a `break` out of the last one.

        All processes call it: it is the one exchange of the epoch.

        Returns:
            The row of the epoch that ended last, now or before.

        Raises:
            RuntimeError: No epoch has begun; or a process did not come within the group's timeout,
                or has nothing to report, or does not agree: it is named.
        """
        return self._course.close_epoch()

    @eager
    def update(
        self, losses: Tensor, indices: ArrayLike | Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Takes the losses of a batch and returns the one for `accelerator.backward`.

        Args:
            losses: Floats (B,), one per sample of this process, or (B, ...), reduced to one by the
                mean; of any floating dtype, on any device, never changed.
            indices: Integers (B,), the samples that the losses belong to; None: the one batch that
                is unanswered. Best on the CPU: from a device they have to be waited for.
            mask: The shape of `losses` (B, ...): which of its elements count.

        Returns:
            sum(weight x loss) / B, a scalar; with all weights 1 exactly `losses.mean()`.

        Raises:
            RuntimeError: It is not known which batch the losses belong to.
            TypeError, ValueError, IndexError: The losses or the indices do not fit.
        """
        return self._course.answer(losses, indices, mask)[0]

    def skip(self) -> None:
        """Leaves the one unanswered batch out: its samples keep the losses that they had."""
        self._course.unanswered.skip()

    def flush(self) -> None:
        """Records losses still on a device, waiting for it; the end of an epoch does so, too."""
        self._course.buffer.drain()

    # Saving and resuming; `accelerator.save_state` and `load_state` call these.

    def state_dict(self) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too: the same in all processes.

        The oldest batch not answered yet, and those after it, are given out again. In mid-epoch all
        processes call this, as it gathers what they recorded.

        Raises:
            RuntimeError: Batches arrive out of order (`in_order=False`) and the epoch is not over;
                or the processes do not agree, or one did not come within the group's timeout.
        """
        pruner = self.pruner
        done = self._course.trained_of_plan(
            self._global_batch, in_order=getattr(self._loader, "in_order", True), gather=True
        )
        return {"pruner": with_tensors(pruner.state_dict()), "done": done}

    def load_state_dict(self, state: dict[str, Any], *, changed: Iterable[str] = ()) -> None:
        """Goes on from a saved state: the next pass walks through the rest of the open epoch.

        The number of processes may be another than that of the run that was saved.

        Args:
            state: What `state_dict` returned.
            changed: What is meant to differ from the run that was saved, as for
                `Pruner.load_state_dict`.

        Raises:
            ValueError: Something else differs, or it is no such state; nothing is changed then.
        """
        if not isinstance(state, dict) or "pruner" not in state:
            raise ValueError(
                "state must be what Pruning.state_dict() returned, a dict with 'pruner', got "
                f"{sorted(state) if isinstance(state, dict) else type(state).__name__}: register "
                "objects with the accelerator in the order in which they were when it was saved"
            )
        self._course.pruner.load_state_dict(with_arrays(state["pruner"]), changed=changed)
        self._course.restart(int(state["done"]))

    @property
    def sampler(self) -> NoReturn:
        """Where `skip_first_batches` would look; there is nothing to skip.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(
            "Pruning has no sampler to skip batches of (accelerate.skip_first_batches): after "
            "accelerator.load_state() the next pass over it gives out what is left of the epoch. "
            "Iterate over it as it is, and start the loop at pruning.pruner.next_epoch"
        )

    def _batches_of(self, samples: int) -> int:
        """Returns the batches of each process that so many samples make."""
        return (
            samples // self._global_batch if self._drop_last else -(-samples // self._global_batch)
        )


_WORKERS = 0x5E7A  # as in seta.torch.loader: one process gives the same seeds with and without
