"""One run: a contender trains one net of a task, and the line that tells all about it.

Three lines of the loop are seta's: the loader, `set_epoch`, `update`. Wall and CPU time are taken
without the evaluations. Nothing is printed, and the random state of torch is as it was, afterwards.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.clock import Clock
from benchmarks.accuracy.rivals import RESAMPLED, Resampled
from benchmarks.accuracy.task import Task, Trial
from benchmarks.measure import machine, source, versions
from seta.comparison.contenders import Contender
from seta.comparison.lines import Line
from seta.engine import LossHistogram, difficulty_groups
from seta.engine.curves.policy import takes_strata
from seta.engine.steps import Steps
from seta.torch import PrunedDataLoader

SOURCE = source()  # as the code is loaded: another version may be installed while runs are made
GROUPS = 5
EVALUATIONS = 5
ROW = (
    "epoch",
    "kept",
    "trained",
    "saved",
    "mean_loss",
    "select_seconds",
    "train_seconds",
    "window",
    "group_sizes",
    "longest_left_out",
    "unseen",
)
"""What is kept of the pruner's own row of an epoch."""

OnEpoch = Callable[[int, int, float | None], object]
"""Called after each epoch with the epochs done, the visits so far, the accuracy if measured."""


@dataclass
class Course:
    """What a run has come to: visits, wrong labels among them, and what was measured."""

    visits: int = 0
    wrong: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    accuracies: list[tuple[int, int, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    hardest: list[dict[str, Any]] = field(default_factory=list)


def make_line(
    task: Task,
    contender: Contender,
    *,
    suite: str,
    variant: str,
    seed: int,
    full_epochs: int,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
) -> Line:
    """Makes a run and returns its line.

    Args:
        task: What is trained.
        contender: How it chooses, and for how long.
        suite: For the line.
        variant: For the line.
        seed: Of the net, of the selections and of torch's random state.
        full_epochs: Epochs of full training.
        device: Where the task lives, to take its times right.
        on_epoch: Told how far the run is.

    Raises:
        ValueError: The contender needs classes, and the task has none.
    """
    policy = contender.policy()
    if contender.method == RESAMPLED:
        task = Resampled(task, seed)
    sizes = Steps(len(task.dataset), task.batch_size, drop_last=True)
    loader = _loader(task, contender, policy, seed, contender.length(sizes, full_epochs))
    training, evaluating = Clock(device), Clock(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout, say, is as repeatable as the rest
        course = _train(task, loader, task.trial(seed), training, evaluating, on_epoch)
    full_visits = sizes.most * full_epochs
    return {
        "suite": suite,
        "variant": variant,
        "method": contender.method,
        "budget": contender.budget,
        "seed": seed,
        "accuracy": course.metrics["accuracy"],
        "visits": course.visits,
        "full_visits": full_visits,
        "saved": 1 - course.visits / full_visits,
        "n": len(task.dataset),
        "epochs": loader.epochs,
        "full_epochs": full_epochs,
        "accuracies": course.accuracies,
        "metrics": {name: _finite(value) for name, value in course.metrics.items()},
        "rows": course.rows,
        **_wrong_labels(task, course),
        "seconds": round(training.wall, 4),
        "cpu_seconds": round(training.cpu, 4),
        "select_seconds": round(sum(row["select_seconds"] for row in course.rows), 4),
        "eval_seconds": round(evaluating.wall, 4),
        "policy": repr(policy),
        "task": task.settings,
        **made_with(device),
    }


def made_with(device: str) -> dict[str, Any]:
    """Returns what a run was made with: versions, machine, threads, code and date."""
    made = machine() | {"device": device}
    if device != "cpu":
        made["device_name"] = torch.cuda.get_device_name(device)
    used = versions()
    if "transformers" in sys.modules:
        used["transformers"] = metadata.version("transformers")
    return {
        "versions": used,
        "machine": made,
        "threads": torch.get_num_threads(),
        "source": SOURCE,
        "date": time.strftime("%Y-%m-%d"),
    }


def warm_up(task: Task, steps: int = 3) -> None:
    """Takes a few steps that count for nothing, so that the first run does not pay for first calls.

    Args:
        task: Whose nets are going to be trained.
        steps: How many.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trial = task.trial(0)
        indices = list(range(min(task.batch_size, len(task.dataset))))
        for _ in range(steps):
            trial.step(trial.losses(task.dataset.__getitems__(indices)).mean(), 0.01)


def as_is(batch: Any) -> Any:
    """The collate function of tasks, whose datasets give out whole batches."""
    return batch


def _loader(
    task: Task, contender: Contender, policy: Any, seed: int, length: dict[str, Any]
) -> PrunedDataLoader:
    options: dict[str, Any] = {}
    unequal = bool(getattr(task, "rare", ()))  # where a user would give the classes
    if contender.needs_classes or (takes_strata(policy) and unequal):
        if task.classes is None:
            raise ValueError(
                f"{contender.method} needs the class of each sample, and this task has classes "
                "None: leave the method out of the suite's methods"
            )
        options["strata"] = task.classes
    return PrunedDataLoader(
        task.dataset,
        policy,
        seed=seed,
        batch_size=contender.batch_size(task.batch_size),
        drop_last=True,  # a smaller last batch takes as large a step, of full training too
        collate_fn=as_is,
        with_indices=True,
        threads=torch.get_num_threads(),
        **length,
        **options,
    )


def _train(
    task: Task,
    loader: PrunedDataLoader,
    trial: Trial,
    training: Clock,
    evaluating: Clock,
    on_epoch: OnEpoch | None,
) -> Course:
    """Trains all epochs; evaluates now and then, and after the last."""
    epochs = loader.epochs
    every = max(1, epochs // EVALUATIONS)
    course = Course()
    for epoch in range(epochs):
        wrong_before = course.wrong
        with training.running():
            _train_epoch(task, loader, trial, epoch, course)
        row = loader.pruner.history[-1]
        course.rows.append(_reduced(row))
        if task.wrong is not None:
            course.rows[-1]["wrong"] = course.wrong - wrong_before
        done, accuracy = epoch + 1, None
        if done % every == 0 or done == epochs:
            with evaluating.running():
                last = getattr(trial, "evaluate_last", trial.evaluate)
                course.metrics = last() if done == epochs else trial.evaluate()
            accuracy = course.metrics["accuracy"]
            course.accuracies.append((done, course.visits, accuracy))
            if task.wrong is not None:
                found = hardest_group(loader.pruner.losses, task.wrong)
                course.hardest.append({"epoch": done, **found})
        if on_epoch:
            on_epoch(done, course.visits, accuracy)
    return course


def _train_epoch(
    task: Task, loader: PrunedDataLoader, trial: Trial, epoch: int, course: Course
) -> None:
    loader.set_epoch(epoch)
    lengths = loader.pruner.lengths
    total = sum(lengths) if lengths else None
    for indices, batch in loader:
        losses = trial.losses(batch)
        loss = loader.update(losses, indices=indices)
        course.visits += len(indices)
        if task.wrong is not None:
            course.wrong += int(task.wrong[indices.numpy()].sum())
        # By visits where they are known: the last epoch of "Full at equal cost" is a short one.
        trial.step(loss, course.visits / total if total else loader.progress)
    loader.end_epoch()


def hardest_group(losses: NDArray[np.float32], wrong: NDArray[np.bool_]) -> dict[str, float | None]:
    """Returns how well the hardest of five difficulty groups finds the wrong labels.

    Args:
        losses: float32 (n,), NaN = unseen.
        wrong: bool (n,).

    Returns:
        `precision`, the share of wrong labels in the group, and `recall`, the share of all wrong
        labels that it holds; None where there is nothing to divide by.
    """
    groups = difficulty_groups(LossHistogram.from_losses(losses), GROUPS)
    chosen = losses >= groups.bounds[-2] if len(groups) else np.zeros(len(losses), bool)
    found = int((chosen & wrong).sum())
    size, all_wrong = int(chosen.sum()), int(wrong.sum())
    return {
        "precision": found / size if size else None,
        "recall": found / all_wrong if all_wrong else None,
    }


def _wrong_labels(task: Task, course: Course) -> dict[str, Any]:
    if task.wrong is None:
        return {"wrong_share": None, "wrong_share_of_data": None, "hardest": None}
    return {
        "wrong_share": course.wrong / course.visits,
        "wrong_share_of_data": float(task.wrong.mean()),
        "hardest": {name: course.hardest[-1][name] for name in ("precision", "recall")},
        "hardest_by_epoch": course.hardest,
    }


def _reduced(row: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a row, in six digits; without what a policy does not have."""
    kept = {name: row[name] for name in ROW if row[name] is not None}
    return {name: _finite(value, digits=6) for name, value in kept.items()}


def _finite(value: Any, digits: int | None = None) -> Any:
    """JSON has no NaN and no infinity: None in their place."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else float(f"{value:.{digits}g}")
