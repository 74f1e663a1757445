"""What a user may give, and what a `Trainer` may be set to, checked before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch.distributed as dist
from numpy.typing import ArrayLike
from transformers import Trainer, TrainingArguments

from seta.engine import Policy
from seta.engine.arguments import Listener, Reorder
from seta.engine.steps import Budget
from seta.integrations.transformers.losses import SampleLosses
from seta.torch.arguments import check_dataset


@dataclass(frozen=True, eq=False)
class PruningArguments:
    """How to prune: beside `TrainingArguments`, which say how to train.

    Attributes:
        policy: A policy, or its name: "SeTa", "InfoBatch", "Random", "Static", "Full".
        budget: Share of full training's sample visits to pay, in (0, 1]: one for all epochs, one
            for each, or a function of the epoch. Then every step is known before the first, and all
            schedules end where they should. None: as many as the policy keeps.
        seed: Of the selections; None: `data_seed` of the training arguments, else their `seed`.
        index_key: Let the index of a sample, a mapping, ride inside it under this key, for collate
            functions that leave rows out or sort a copy of them. The batch has to have the key too;
            the model does not get it. In evaluation rows have no such key.
        always_keep: Indices of samples that are never pruned.
        losses: Float (N,), a warm start: an earlier run's `trainer.pruner.losses`.
        strata: Integers (N,), the class of each sample, for a policy that looks at classes.
        reorder: Takes an epoch's indices in random order and returns a permutation of them, to put
            samples of one length into one batch, say.
        on_epoch: Called with the row of each epoch that ends; one function or several.
        count_kept: Whether to count how often each sample was kept (`pruner.kept_counts`).
        track: Whether to keep visits, mean and spread of each sample's losses (`pruner.table()`),
            and all losses of some (`pruner.trajectories()`); or integers, samples to be among them.
        threads: Threads that choose the samples of an epoch; None: all cores.
        sample_losses: For models whose loss is not a cross-entropy or squared error of `logits` and
            `labels`: takes the model's outputs and the batch, and returns the losses of its
            samples, (B,), or of their parts, (B, ...), or a pair of those and a mask of the parts
            that count.
        changed: What is meant to differ from the run that is resumed, as for
            `Pruner.load_state_dict`: ("epochs",), say.
    """

    policy: Policy | str = "SeTa"
    _: KW_ONLY
    budget: Budget | None
    seed: int | None = None
    index_key: str | None = None
    always_keep: ArrayLike | None = None
    losses: ArrayLike | None = None
    strata: ArrayLike | None = None
    reorder: Reorder | None = None
    on_epoch: Listener | Iterable[Listener] | None = None
    count_kept: bool = False
    track: bool | ArrayLike = False
    threads: int | None = None
    sample_losses: Callable[[Any, dict[str, Any]], SampleLosses] | None = None
    changed: Iterable[str] = ()

    def of_pruner(self, args: TrainingArguments) -> dict[str, Any]:
        """Returns what a pruner is given as it is."""
        own_seed = args.seed if args.data_seed is None else args.data_seed
        names = ("always_keep", "losses", "strata", "on_epoch", "count_kept", "track", "threads")
        return {
            "seed": own_seed if self.seed is None else self.seed,
            **{name: getattr(self, name) for name in names},
        }


def check_arguments(pruning: PruningArguments) -> PruningArguments:
    """Returns the argument, if it is one.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(pruning, PruningArguments):
        raise TypeError(
            f"pruning must be PruningArguments, got {type(pruning).__name__}: give "
            "pruning=PruningArguments(budget=0.6)"
        )
    return pruning


def check_trainer(trainer: Trainer, pruning: PruningArguments) -> None:
    """Refuses settings under which a sample would be trained twice, or its loss be another's.

    Raises:
        TypeError: The dataset cannot be pruned.
        ValueError: Names the setting, its value, why, and the way out.
    """
    args = trainer.args
    if trainer.train_dataset is not None:
        check_dataset(trainer.train_dataset)
    for name, value, allowed, remedy in _settings(trainer, pruning):
        if not allowed:
            raise ValueError(f"{name} does not go with pruning, got {value!r}: {remedy}")
    if pruning.budget is not None:
        return
    if args.max_steps > 0:
        raise ValueError(
            f"max_steps needs a budget, got max_steps={args.max_steps} with budget=None: without "
            "one nobody knows how many epochs that is. Give budget=, or num_train_epochs"
        )
    if args.num_train_epochs != int(args.num_train_epochs):
        raise ValueError(
            f"num_train_epochs must be whole with budget=None, got {args.num_train_epochs}: the "
            "length of the last epoch is not known before it. Give budget=, or whole epochs"
        )


def _settings(trainer: Trainer, pruning: PruningArguments) -> list[tuple[str, Any, bool, str]]:
    """Returns the settings looked at: name, value, whether it is allowed, what to do if not."""
    args = trainer.args
    accelerator: Any = args.accelerator_config
    strategy = args.train_sampling_strategy
    parallel = [trainer.get_tp_size(), trainer.get_cp_size(), trainer.get_sp_size()]
    grouped = dist.is_available() and dist.is_initialized()
    processes = dist.get_world_size() if grouped else 1
    return [
        (
            f"a torch.distributed group of {processes} with a Trainer that counts as processes",
            args.world_size,
            args.world_size == processes,
            "each would train all by itself. On CPUs set use_cpu=True; else initialise no group of "
            "another size",
        ),
        (
            "several GPUs in one process (DataParallel)",
            args.n_gpu,
            args.n_gpu <= 1,
            "losses of its replicas come back without their samples. Start one process for each, "
            "by torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES to one",
        ),
        (
            "tensor, context or sequence parallelism (sizes of the three)",
            parallel,
            max(parallel) == 1,
            "a sample is then in several processes. Train with data parallelism, DDP or FSDP",
        ),
        (
            "accelerator_config.dispatch_batches",
            accelerator.dispatch_batches,
            not accelerator.dispatch_batches,
            "indices do not travel between processes. Leave it out; each reads its own samples",
        ),
        (
            "accelerator_config.split_batches",
            accelerator.split_batches,
            not accelerator.split_batches,
            "leave it out, and set per_device_train_batch_size to the size on one device",
        ),
        (
            "ignore_data_skip",
            args.ignore_data_skip,
            not args.ignore_data_skip,
            "a resumed run would train samples of its epoch again. Leave it out: to skip costs "
            "nothing here, since no sample is loaded for it",
        ),
        (
            "dataloader_in_order",
            getattr(args, "dataloader_in_order", True),
            getattr(args, "dataloader_in_order", True),
            "batches out of order have no position to resume from. Leave it out",
        ),
        (
            "train_sampling_strategy",
            strategy,
            strategy in ("random", "sequential", "group_by_length"),
            "it chooses the samples of a batch itself. Take random, sequential or group_by_length",
        ),
        (
            f"reorder= together with train_sampling_strategy={strategy!r}",
            pruning.reorder,
            pruning.reorder is None or strategy == "random",
            "both say the order. Leave one of them out",
        ),
    ]
