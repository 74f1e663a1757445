"""One run: the supervised model of a seed, trained by GRPO on the prompts that a method chooses."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.rollouts import model as models
from benchmarks.rollouts.methods import METHODS, batches
from benchmarks.rollouts.task import TASKS, split


@dataclass(frozen=True)
class Sizes:
    """Of a run.

    Attributes:
        task: Its name in `TASKS`.
        prompts: To train on.
        held_out: To look at.
        supervised: Steps before.
        passes: Groups made for each prompt, on average.
        batch: Prompts of a batch, and groups of an optimizer step.
        rollouts: Of a prompt.
        rate: The learning rate of GRPO.
        every: Batches from one look at the held-out prompts to the next.
    """

    task: str
    prompts: int = 2048
    held_out: int = 1024
    supervised: int = 1200
    passes: int = 4
    batch: int = 32
    rollouts: int = 8
    rate: float = 3e-4
    every: int = 8


@cache
def supervised(task: str, seed: int, steps: int) -> Any:
    """Returns the model that all runs of a seed begin with."""
    model = models.begun(seed)
    models.supervised(model, TASKS[task], seed, steps)
    return model


def run(name: str, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Returns the line of a run.

    `looks` are rows of (rollouts made, seconds of the CPU, held-out reward), `flat` is the share of
    the groups made that had no spread, `steps` counts those of the optimizer.
    """
    train, held_out = split(TASKS[sizes.task], seed, sizes.prompts, sizes.held_out)
    model = copy.deepcopy(supervised(sizes.task, seed, sizes.supervised))
    optimizer = torch.optim.AdamW(model.parameters(), lr=sizes.rate)
    generator = torch.Generator().manual_seed(seed)
    method = METHODS[name]
    waiting: list[tuple[Tensor, Tensor, Tensor]] = []
    looks = [[0.0, 0.0, reward_of(model, held_out)]]
    made = flat = steps = 0
    seconds = 0.0
    for number, (indices, take) in enumerate(
        batches(method, sizes.prompts, sizes.passes, sizes.batch, seed), 1
    ):
        started = time.process_time()
        at = torch.from_numpy(indices)
        drawn = models.rolled_out(model, train.tokens[at], sizes.rollouts, generator)
        rewards = (drawn == train.answers[at][:, None]).all(dim=2).float()
        take(rewards.numpy())
        some = rewards.std(dim=1) > 1e-6
        made += len(indices)
        flat += int((~some).sum())
        used = some if method.resampled else torch.ones_like(some)
        waiting.append((train.tokens[at][used], drawn[used], rewards[used]))
        ready = sum(len(tokens) for tokens, _, _ in waiting)
        if ready >= (sizes.batch if method.resampled else 1):
            parts = [torch.cat(part)[: sizes.batch] for part in zip(*waiting, strict=True)]
            models.step(model, optimizer, *parts)
            waiting, steps = [], steps + 1
        seconds += time.process_time() - started
        if number % sizes.every == 0:
            looks.append([made * sizes.rollouts, round(seconds, 3), reward_of(model, held_out)])
    return {
        "method": name,
        "seed": seed,
        "sizes": asdict(sizes),
        "flat": flat / made,
        "steps": steps,
        "looks": looks,
    }


def reward_of(model: Any, prompts: Any) -> float:
    """Returns the expected reward of held-out prompts."""
    return float(models.expected(model, prompts).mean())
