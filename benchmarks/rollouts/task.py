"""Prompts whose answers can be checked: arithmetic of graded difficulty, as a few characters.

A prompt is an operation and two numbers of two digits of 0 to 5: `+4513=`. The answer has two. Of a
copy (`c`) they are those of the first number, of `+`, `-` and `*` each is that of the two digits in
its place, modulo 6, and of `?` they were drawn at random once. So copies become trivial, and what
is drawn cannot be worked out.

Between them difficulty is graded by what is shown before the reinforcement: `shown` answers rightly
with a probability that a `Task` gives, and else as if `+`, `-` or `*` were another of the three. So
a model of it has all that it needs, and says it as often as it was shown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BASE = 6
OPERATIONS = "c+-*?"
EQUALS = BASE + len(OPERATIONS)
VOCABULARY = EQUALS + 1
PROMPT, ANSWER = 6, 2
"""Tokens."""


class Task(NamedTuple):
    """What prompts there are, and how well they are known before the reinforcement.

    Attributes:
        shares: Of the prompts, by operation.
        shown: How often each operation but the last is shown rightly, by the first digit.
    """

    shares: tuple[float, ...]
    shown: tuple[tuple[float, ...], ...]


_GRADES = (0.9, 0.6, 0.3, 0.15, 0.07, 0.03)
TASKS = {
    "few": Task(
        (0.4, 0.12, 0.08, 0.05, 0.35),
        ((1.0,) * BASE, (1 / 2,) * BASE, (1 / 4,) * BASE, (1 / 12,) * BASE),
    ),
    "graded": Task((0.25, 0.17, 0.17, 0.16, 0.25), ((1.0,) * BASE, _GRADES, _GRADES, _GRADES)),
}


class Prompts(NamedTuple):
    """Prompts with their answers.

    Attributes:
        tokens: int64 (N, 6).
        answers: int64 (N, 2).
        operation: int64 (N,), the place in `OPERATIONS`.
    """

    tokens: Tensor
    answers: Tensor
    operation: Tensor


def made(task: Task, count: int, seed: int) -> Prompts:
    """Returns all different prompts, with right answers.

    Args:
        task: What prompts there are.
        count: How many.
        seed: Of the choice.
    """
    rng = np.random.default_rng([seed, count])
    numbers = np.floor(np.cumsum(task.shares) * count + 0.5).astype(int)
    parts = []
    for at, number in enumerate(np.diff(numbers, prepend=0)):
        pairs = rng.permutation(BASE**4)[:number]
        answers = results(pairs, np.full(number, at))
        if at == len(OPERATIONS) - 1:
            answers = rng.integers(0, BASE, answers.shape)
        parts.append(_joined(pairs, np.full(number, at), answers))
    return _cut(rng.permutation(np.concatenate(parts)))


def shown(task: Task, count: int, seed: int) -> Prompts:
    """Returns prompts of the operations but the last, with the answers that are shown."""
    rng = np.random.default_rng([seed, count])
    operation = rng.integers(0, len(task.shown), count)
    other = 1 + (operation + rng.integers(0, 2, count)) % 3  # of 1, 2, 3, another one
    draws = rng.random(count)
    pairs = rng.integers(0, BASE**4, count)
    right = draws < np.array(task.shown)[operation, digits_of(pairs)[:, 0]]
    return _cut(_joined(pairs, operation, results(pairs, np.where(right, operation, other))))


def results(pairs: NDArray[np.int64], operation: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the digits of results: int64 (B, 2); of the last operation those of a copy."""
    digits = digits_of(pairs)
    one, other = digits[:, :2], digits[:, 2:]
    every = np.stack([one, one + other, one - other, one * other, one])
    chosen: NDArray[np.int64] = every[operation, np.arange(len(pairs))] % BASE
    return chosen


def digits_of(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the digits of two numbers, which are one of four digits here: int64 (B, 4)."""
    return pairs[:, None] // BASE ** np.arange(3, -1, -1) % BASE


def _joined(
    pairs: NDArray[np.int64], operation: NDArray[np.int64], answers: NDArray[np.int64]
) -> NDArray[np.int64]:
    first, last = operation[:, None] + BASE, np.full((len(pairs), 1), EQUALS)
    return np.concatenate([first, digits_of(pairs), last, answers], axis=1)


def _cut(table: NDArray[np.int64]) -> Prompts:
    rows = torch.from_numpy(table)
    return Prompts(rows[:, :PROMPT], rows[:, PROMPT:], rows[:, 0] - BASE)


def split(task: Task, seed: int, train: int, held_out: int) -> tuple[Prompts, Prompts]:
    """Returns prompts to train on and others, of the same kinds, to look at."""
    both = made(task, train + held_out, seed)
    return Prompts(*(part[:train] for part in both)), Prompts(*(part[train:] for part in both))
