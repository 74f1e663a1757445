"""`PruningArguments`, and the checks of a `Trainer`'s settings before training."""

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

_KNOWN = ("seta", "transformers", "trl", "sentence_transformers")  # whose samplers are seen to


@dataclass(frozen=True, eq=False)
class PruningArguments:
    """Arguments of pruning for a `Trainer`, in addition to its `TrainingArguments`.

    Attributes:
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa" (with default
            arguments, or under a budget with those for it), or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
        budget: Share of full training's sample visits that the run may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. The number of steps is then known in advance,
            and learning-rate schedules end correctly. None: the policy decides, and lengths vary.
        seed: Seed of the selections. None: `data_seed` of the training arguments, or else their
            `seed`.
        index_key: Adds the index to each row, a mapping, under this key; for a data collator that
            drops rows or reorders a copy of them. The batch must have the key too; it is removed
            before the model is called. Evaluation rows do not have the key.
        always_keep: Indices of samples that are never pruned, integers.
        losses: Initial losses, float (N,), NaN = unseen; for example an earlier run's
            `trainer.pruner.losses`.
        strata: Class of each sample, integers (N,) from 0 on, for policies that look at classes.
        reorder: Function of an epoch's indices in random order that returns a permutation of them;
            to batch samples of similar length, for example.
        on_epoch: Function, or several, called with each epoch's row when the epoch ends.
        count_kept: Whether to count how often each sample was kept, for `pruner.kept_counts`.
        track: Whether to keep the number, mean and standard deviation of each sample's losses, for
            `pruner.table()` and `pruner.suspects()`, and the losses of some samples in every epoch,
            for `pruner.trajectories()`. Indices: True, and the trajectories include these samples.
        threads: Number of threads that select an epoch's samples. None: all cores.
        sample_losses: Function of the model's outputs and the batch that returns per-sample losses,
            (B,), or the losses of their parts, (B, ...), or a pair of these and a mask of the parts
            that count. For models whose loss is not a cross-entropy or squared error of `logits`
            and `labels`.
        changed: Names of arguments that may differ from those of the run that is resumed, as for
            `Pruner.load_state_dict`: ("epochs",), for example.
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
        """Returns keyword arguments for `Pruner`."""
        own_seed = args.seed if args.data_seed is None else args.data_seed
        names = ("always_keep", "losses", "strata", "on_epoch", "count_kept", "track", "threads")
        return {
            "seed": own_seed if self.seed is None else self.seed,
            **{name: getattr(self, name) for name in names},
        }


def check_arguments(pruning: PruningArguments) -> PruningArguments:
    """Returns `pruning` if it is valid.

    Raises:
        TypeError: It is not `PruningArguments`.
    """
    if not isinstance(pruning, PruningArguments):
        raise TypeError(
            f"pruning must be PruningArguments, got {type(pruning).__name__}: give "
            "pruning=PruningArguments(budget=0.6)"
        )
    return pruning


def check_trainer(trainer: Trainer, pruning: PruningArguments) -> None:
    """Refuses settings that would train samples twice, or assign losses to wrong samples.

    Raises:
        TypeError: The dataset cannot be pruned.
        ValueError: A setting is not possible with pruning; the message names it and the way out.
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
            "one the number of epochs is not known. Give budget=, or num_train_epochs"
        )
    deepspeed: Any = getattr(args, "hf_deepspeed_config", None)
    if deepspeed is not None and "scheduler" in deepspeed.config:
        raise ValueError(
            "the scheduler of DeepSpeed's configuration needs a budget, got "
            f"{deepspeed.config['scheduler'].get('type')!r} with budget=None: it counts steps, "
            "whose number is not known. Give budget=, or leave it out for lr_scheduler_type"
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
    samplers = [
        f"{one.__name__}._get_train_sampler"
        for one in type(trainer).__mro__
        if "_get_train_sampler" in vars(one) and one.__module__.split(".")[0] not in _KNOWN
    ]
    return [
        (
            f"a torch.distributed group of {processes} with a Trainer that counts as processes",
            args.world_size,
            args.world_size == processes,
            "each process would train all samples. On CPUs set use_cpu=True; else do not "
            "initialise a group of another size",
        ),
        (
            "several GPUs in one process (DataParallel)",
            args.n_gpu,
            args.n_gpu <= 1,
            "losses of its replicas cannot be matched to samples. Start one process per GPU with "
            "torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES to one",
        ),
        (
            "tensor, context or sequence parallelism (sizes of the three)",
            parallel,
            max(parallel) == 1,
            "several processes would share a sample. Train with data parallelism, DDP or FSDP",
        ),
        (
            "accelerator_config.dispatch_batches",
            accelerator.dispatch_batches,
            not accelerator.dispatch_batches,
            "indices are not sent between processes. Leave it out: each process reads its samples",
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
            "a resumed run would train samples of its epoch again. Leave it out: skipping costs "
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
            "it selects the samples of a batch itself. Use random, sequential or group_by_length",
        ),
        (
            "a sampler of your own",
            samplers,
            not samplers,
            "the selection of an epoch is the sampler. Leave it out; for an order of your own give "
            "PruningArguments(reorder=...)",
        ),
        (
            f"reorder= together with train_sampling_strategy={strategy!r}",
            pruning.reorder,
            pruning.reorder is None or strategy == "random",
            "both set the order. Leave one of them out",
        ),
    ]
