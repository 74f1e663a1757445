"""Prompts whose answers can be checked: arithmetic of graded difficulty, as a few characters.

A prompt is an operation and two numbers of two digits of 0 to 5: `+4513=`. The answer has two. Of a
copy (`c`) they are those of the first number, of `+`, `-` and `*` each is that of the two digits in
its place, modulo 6, and of `?` they were drawn at random once. So copies become trivial, and what
is drawn cannot be worked out.

Between them difficulty is graded by what is shown before the reinforcement: `shown` answers `+`
rightly half of the times, `-` a quarter and `*` a twelfth, and else as if it were another of the
three. So a model of it has all that it needs, and seldom says it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BASE = 6
OPERATIONS = "c+-*?"
SHARES = (0.4, 0.12, 0.08, 0.05, 0.35)
"""Of the prompts, by operation."""
SHOWN = (1.0, 1 / 2, 1 / 4, 1 / 12)
"""How often the operations but the last are shown rightly."""
EQUALS = BASE + len(OPERATIONS)
VOCABULARY = EQUALS + 1
PROMPT, ANSWER = 6, 2
"""Tokens."""


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


def made(count: int, seed: int) -> Prompts:
    """Returns all different prompts, with right answers.

    Args:
        count: How many.
        seed: Of the choice.
    """
    rng = np.random.default_rng([seed, count])
    numbers = np.floor(np.cumsum(SHARES) * count + 0.5).astype(int)
    parts = []
    for at, number in enumerate(np.diff(numbers, prepend=0)):
        pairs = rng.permutation(BASE**4)[:number]
        answers = results(pairs, np.full(number, at))
        if at == len(OPERATIONS) - 1:
            answers = rng.integers(0, BASE, answers.shape)
        parts.append(_joined(pairs, np.full(number, at), answers))
    return _cut(rng.permutation(np.concatenate(parts)))


def shown(count: int, seed: int) -> Prompts:
    """Returns prompts of the operations but the last, with the answers that are shown."""
    rng = np.random.default_rng([seed, count])
    operation = rng.integers(0, len(SHOWN), count)
    other = 1 + (operation + rng.integers(0, 2, count)) % 3  # of 1, 2, 3, another one
    right = rng.random(count) < np.array(SHOWN)[operation]
    pairs = rng.integers(0, BASE**4, count)
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


def split(seed: int, train: int, held_out: int) -> tuple[Prompts, Prompts]:
    """Returns prompts to train on and others, of the same kinds, to look at."""
    both = made(train + held_out, seed)
    return Prompts(*(part[:train] for part in both)), Prompts(*(part[train:] for part in both))
