"""Checks of a Lightning run's settings, before it trains."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from seta.integrations.lightning.loader import TrainerLoader

PLACES = {name: f"PruningCallback({name}=...)" for name in ("policy", "budget", "seed", "on_epoch")}
PLACES |= {name: "Trainer(max_epochs=...)" for name in ("epochs", "steps")}
PLACES["accumulation"] = "Trainer(accumulate_grad_batches=...)"


def check_options(options: dict[str, Any]) -> None:
    """Refuses options of the loader that belong to the callback or the trainer.

    Raises:
        TypeError: An option belongs elsewhere; the message says where.
        ValueError: `sharding` is "sharded".
    """
    for name in sorted(options.keys() & PLACES.keys()):
        raise TypeError(f"loader has no option {name}: give {PLACES[name]}")
    if options.get("sharding", "replicated") != "replicated":
        raise ValueError(
            f'sharding must be "replicated", got {options["sharding"]!r}: Lightning writes the '
            "callback's state of one rank, and of a sharded table each rank has a part"
        )


def check_trainer(trainer: Trainer) -> None:
    """Refuses a run without a number of epochs, and one that repeats a few batches.

    Raises:
        ValueError: Names the argument.
    """
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise ValueError(
            f"max_epochs must be at least 1, got {trainer.max_epochs}: the pruner plans the run "
            "by its epochs; give Trainer(max_epochs=...)"
        )
    if trainer.max_steps != -1 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ValueError(
            f"max_steps must be left out, got {trainer.max_steps}: the pruner plans the run by "
            "max_epochs, and max_steps would stop it early. Give max_epochs and a budget; "
            "pruning.total_steps is the resulting number of steps"
        )
    repeated = trainer.overfit_batches  # type: ignore[attr-defined]
    if repeated:
        raise ValueError(
            f"overfit_batches must be 0, got {repeated}: it repeats a few batches, and pruning "
            "selects others in each epoch. Leave one of the two out"
        )


def check_epochs(trainer: Trainer, epochs: int) -> None:
    """Refuses epochs that were added after the start of the run.

    Raises:
        ValueError: Names both numbers.
    """
    if trainer.max_epochs != epochs:
        raise ValueError(
            f"max_epochs was {epochs} when the run was planned, and is {trainer.max_epochs} now: "
            "StochasticWeightAveraging adds an epoch for a model with batch norm. Leave it out and "
            "call torch.optim.swa_utils.update_bn, or use WeightAveraging"
        )


def check_validation(trainer: Trainer, shortest: int) -> None:
    """Refuses validation at a batch number that some epochs do not reach.

    Args:
        trainer: The trainer.
        shortest: Batches that every epoch has.

    Raises:
        ValueError: Names both numbers.
    """
    if trainer.val_check_batch is None or not trainer.check_val_every_n_epoch:
        return
    interval = trainer.val_check_interval
    if trainer.enable_validation and isinstance(interval, int) and interval > shortest:
        raise ValueError(
            f"val_check_interval must be at most {shortest}, the batches that every epoch is sure "
            f"to have, got {interval}: give a float, a share of each epoch, or "
            "check_val_every_n_epoch=None to count on over the epochs"
        )


def check_schedules(trainer: Trainer, estimated: float, loader: TrainerLoader) -> None:
    """Refuses schedules that were made for a number of steps that the run does not have.

    Args:
        trainer: With its schedules.
        estimated: Its `estimated_stepping_batches` before training.
        loader: The training data.

    Raises:
        ValueError: Names the schedule and both numbers.
    """
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        ends = getattr(schedule, "total_steps", getattr(schedule, "T_max", None))
        if config.interval != "step" or ends is None or ends != estimated:
            continue
        name = type(schedule).__name__
        if loader.pruner.lengths is None:
            raise ValueError(
                f"{name} is made for {ends} steps (trainer.estimated_stepping_batches), those of "
                "full training, and without a budget the number of steps is not known: drive it by "
                "pruning.schedule(scheduler, steps=...), or give a budget"
            )
        if ends != loader.total_steps:
            raise ValueError(
                f"{name} is made for {ends} steps (trainer.estimated_stepping_batches), and this "
                f"run has {loader.total_steps}, since its epochs differ by a batch: make it for "
                "pruning.total_steps"
            )
