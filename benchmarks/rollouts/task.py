"""Prompts whose answers can be checked: arithmetic of graded difficulty, as a few characters.

A prompt is an operation and two numbers of two digits: `+4718=`. The answer has two digits. Of a
copy (`c`) it is the first number, of `+`, `-` and `*` the result modulo 100, and of `?` a number
drawn at random once: copies become trivial, and what is drawn cannot be worked out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

OPERATIONS = "c+-*?"
SHARES = (0.3, 0.2, 0.15, 0.1, 0.25)
"""Of the prompts, by operation."""
EQUALS = 10 + len(OPERATIONS)
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


def made(count: int, seed: int, *, learnable: bool = False) -> Prompts:
    """Returns all different prompts.

    Args:
        count: How many.
        seed: Of the choice.
        learnable: Whether those that cannot be worked out are left out.
    """
    rng = np.random.default_rng([seed, count])
    shares = np.array(SHARES)
    if learnable:
        shares[-1] = 0
    numbers = np.floor(np.cumsum(shares) / shares.sum() * count + 0.5).astype(int)
    parts = []
    for at, number in enumerate(np.diff(numbers, prepend=0)):
        pairs = rng.permutation(10_000)[:number]
        first, second = pairs // 100, pairs % 100
        drawn = rng.integers(0, 100, number)
        results = [first, first + second, first - second, first * second, drawn]
        parts.append(np.stack([np.full(number, at), first, second, results[at] % 100], axis=1))
    table = rng.permutation(np.concatenate(parts))
    operation, first, second, result = (torch.from_numpy(column.copy()) for column in table.T)
    digits = [first // 10, first % 10, second // 10, second % 10]
    tokens = torch.stack([operation + 10, *digits, torch.full_like(first, EQUALS)], dim=1)
    return Prompts(tokens, torch.stack([result // 10, result % 10], dim=1), operation)


def split(seed: int, train: int, held_out: int) -> tuple[Prompts, Prompts]:
    """Returns prompts to train on and others, of the same kinds, to look at."""
    both = made(train + held_out, seed)
    return Prompts(*(part[:train] for part in both)), Prompts(*(part[train:] for part in both))
