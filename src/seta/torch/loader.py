"""`PrunedDataLoader`: the ordinary training loop, over the samples that are worth it.

    loader = PrunedDataLoader(dataset, "SeTa", epochs=10, batch_size=128, num_workers=2)
    for epoch in range(10):
        for images, labels in loader:
            losses = cross_entropy(model(images), labels, reduction="none")
            loss = loader.update(losses)
            ...

Where several processes train together, each makes the same loader after `init_process_group`, and
walks through its own share of every epoch. They exchange losses when it ends, and only then.

It holds a torch `DataLoader` rather than being one, asks its `Pruner` for each epoch's plan, gives
out batches exactly as the user's own loader would, and takes their losses back. It alone decides
where an epoch ends: in `__iter__`, `set_epoch` and `end_epoch`.

Cost on the CPU, for a batch of 128: a few microseconds of loading, some tens of `update`. No step
waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.utils.data import DataLoader, default_collate

from seta.engine import Policy, Pruner
from seta.engine.budget import Budget
from seta.engine.rows import Row
from seta.engine.table import Sharding
from seta.torch.arguments import check_batch_size, check_dataset, check_options
from seta.torch.course import Course, Pass
from seta.torch.dataset import IndexedCollate, IndexedDataset
from seta.torch.eager import eager
from seta.torch.ranks import group_is_up, ranks_of, refuse_late_group
from seta.torch.sampler import PrunedSampler
from seta.torch.state import with_arrays, with_tensors


class PrunedDataLoader:
    """A `DataLoader` that trains each epoch on the samples that a policy keeps.

    One pass over it is one epoch. A pass ends the epoch that it finds open, if a batch was taken
    from it, and begins the next; so a `break` ends an epoch too. `set_epoch(e)` says instead which
    epoch the next pass is. A pass that comes to its end with all batches answered ends its epoch
    there and then.

    Of several processes each gets as many batches as the others, in every epoch, and no sample
    twice; fewer samples than there are ranks are left out at an epoch's end (fewer than a global
    batch with `drop_last`; none under a budget, which counts in global batches).

    Args:
        dataset: Map-style: `len(dataset)` and `dataset[i]` (or `__getitems__`).
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        epochs: Length of the run, >= 1.
        seed: Of the selections, and of the workers' augmentation (unless `generator` is given).
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. Then `total_steps` is known before the first.
            None: as many as the policy keeps.
        batch_size: Samples per batch, >= 1.
        collate_fn: As torch's; None: torch's default.
        generator: Where torch draws the workers' seeds from; None: a generator of the loader's own,
            seeded anew from (seed, epoch) for each pass.
        with_indices: Give out `(indices, batch)`, the indices int64 (B,), for
            `update(losses, indices=indices)`.
        always_keep: Indices of samples that are never pruned.
        losses: Float (N,), a warm start: an earlier run's `pruner.losses`.
        strata: Integers (N,), the class of each sample, for a policy that looks at classes.
        reorder: Takes an epoch's indices in random order and returns a permutation of them, to put
            samples of one length into one batch, say.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        threads: Threads that choose the samples of an epoch; None: all cores.
        process_group: The processes that train together: a torch process group, or one dimension of
            a device mesh (`mesh["dp"]`), so that tensor- and pipeline-parallel processes share what
            they train. None: all of `torch.distributed`, where it is initialised.
        sharding: "replicated": each process holds the losses of all samples. "sharded": each holds
            those of its part of the samples, and trains on that part. None: "sharded" from 100
            million samples on, where there are several processes.
        **options: All other options of `torch.utils.data.DataLoader`, except `sampler`,
            `batch_sampler` and `shuffle`.

    Attributes:
        dataset: The user's own.
        batch_size: Samples per batch, on each rank.
        collate_fn: The user's own, or torch's default.
        sampler: The epoch's plan, sample by sample; its `set_epoch` is the loader's.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        dataset: Any,
        policy: Policy | str,
        *,
        epochs: int,
        seed: int = 0,
        budget: Budget | None = None,
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
        threads: int | None = None,
        process_group: ProcessGroup | DeviceMesh | None = None,
        sharding: Sharding | None = None,
        **options: Any,
    ) -> None:
        check_options(options)
        self._made_alone = not group_is_up()
        ranks = ranks_of(process_group)
        self._ranks = 1 if ranks is None else ranks.size
        self.dataset = dataset
        self.batch_size = check_batch_size(batch_size)
        self.collate_fn = default_collate if collate_fn is None else collate_fn
        self._with_indices = with_indices
        pruner = Pruner(
            check_dataset(dataset),
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            unit=self._global_batch if options.get("drop_last") or self._ranks > 1 else 1,
            always_keep=always_keep,
            losses=losses,
            strata=strata,
            reorder=reorder,
            on_epoch=on_epoch,
            count_kept=count_kept,
            threads=threads,
            ranks=ranks,
            sharding=sharding,
        )
        self._course = course = Course(pruner)
        # Not `self` in the lambda: in a cycle, workers would end some time later, after 5 s each.
        self.sampler = PrunedSampler(course, share=True, done=lambda: course.resumed)
        # torch draws a seed for its workers in each pass; without a generator, from the global one.
        self._own_generator = torch.Generator(torch.get_default_device())
        self._loader: DataLoader[Any] = DataLoader(
            IndexedDataset(dataset),
            batch_size=self.batch_size,
            sampler=self.sampler,
            collate_fn=IndexedCollate(self.collate_fn),
            generator=self._own_generator if generator is None else generator,
            **options,
        )

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
    def num_workers(self) -> int:
        """Worker processes; 0: loading happens in this one."""
        return self._loader.num_workers

    @property
    def drop_last(self) -> bool:
        """Whether an incomplete last batch is left out."""
        return self._loader.drop_last

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
        whole = course.share_size(course.pruner.kept) * self._ranks
        if self.drop_last:
            whole -= whole % self._global_batch
        done = min(course.resumed + course.unanswered.given * self._global_batch, whole)
        return (course.epoch + (done / whole if whole else 1.0)) / course.epochs

    @property
    def _global_batch(self) -> int:
        return self.batch_size * self._ranks

    def _batches_of(self, samples: int) -> int:
        """Returns the batches of each rank that so many samples of all ranks make."""
        share = self._course.share_size(samples)
        return share // self.batch_size if self.drop_last else -(-share // self.batch_size)

    def __len__(self) -> int:
        """Batches in the open epoch; begins the next if none is open and the run is not over."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """Begins a pass over an epoch.

        Raises:
            RuntimeError: All epochs are over.
                Or the loader was made before torch.distributed was initialised.
        """
        if self._made_alone:
            refuse_late_group("PrunedDataLoader")
        course = self._course
        course.start()
        rank = () if course.ranks is None else (course.ranks.rank,)
        seed = np.random.SeedSequence((course.pruner.seed, self.epoch, _WORKERS, *rank))
        self._own_generator.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        return Pass(course, iter(self._loader), self._with_indices)

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one that the next pass walks through.

        Another epoch that is open ends; asking twice for one epoch changes nothing.

        Raises:
            ValueError: The epoch is over already, or there is no such epoch.
        """
        self._course.begin_epoch(epoch)

    def end_epoch(self) -> Row:
        """Ends the open epoch, as the next pass would; for a `break` out of the last one.

        Of several processes all call it: it is the one exchange of the epoch.

        Returns:
            The row of the epoch that ended last, now or before.

        Raises:
            RuntimeError: No epoch has begun; or a rank did not come within the group's timeout, or
                has nothing to report, or does not agree: it is named.
        """
        return self._course.close_epoch()

    @eager
    def update(
        self, losses: Tensor, indices: ArrayLike | Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Takes the losses of a batch and returns the one to call `backward()` on.

        Args:
            losses: Floats (B,), one per sample, or (B, ...), reduced to one by the mean; of any
                floating dtype, on any device, never changed.
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
        """Leaves the one unanswered batch out: its samples keep the losses that they had.

        Raises:
            RuntimeError: No batch, or more than one, is unanswered.
        """
        self._course.unanswered.skip()

    def flush(self) -> None:
        """Records losses still on a device, waiting for it; the end of an epoch does so, too."""
        self._course.buffer.drain()

    def state_dict(self, *, gather: bool = True) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too, for `torch.save`.

        The oldest batch not answered yet, and those after it, are given out again. What is not in
        it: the model, the optimizer, and torch's random state, which are the training loop's.

        With ranks, one state serves all of them: between epochs any rank's, so that one may save
        alone; in mid-epoch all ranks have to call this, as it gathers what they recorded. Of a
        sharded table, or with `gather=False`, each rank has a part: save all of them, and load all.

        Args:
            gather: In mid-epoch, gather what the other ranks recorded.

        Raises:
            RuntimeError: Batches arrive out of order (`in_order=False`) and the epoch is not over;
                or the ranks do not agree, or one did not come within the group's timeout.
        """
        pruner = self.pruner
        done = self._course.trained_of_plan(
            self._global_batch,
            in_order=getattr(self._loader, "in_order", True),
            gather=gather and pruner.sharding == "replicated",
        )
        return {"pruner": with_tensors(pruner.state_dict(gather=gather)), "done": done}

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
        states = (
            list(state) if isinstance(state, Iterable) and not isinstance(state, dict) else [state]
        )
        for one in states:
            if not isinstance(one, dict) or "pruner" not in one:
                raise ValueError(
                    "state must be what PrunedDataLoader.state_dict() returned, a dict with "
                    f"'pruner', got {sorted(one) if isinstance(one, dict) else type(one).__name__}"
                )
        pruners = [with_arrays(one["pruner"]) for one in states]
        same_order = self._course.pruner.load_state_dict(pruners, changed=changed)
        self._course.restart(min(int(one["done"]) for one in states) if same_order else 0)


_WORKERS = 0x5E7A  # keeps the seeds of the workers apart from other uses of the run's seed
