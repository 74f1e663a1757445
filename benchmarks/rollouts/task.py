"""Prompts whose answers can be checked: arithmetic of graded difficulty, as a few characters.

A prompt is an operation and two numbers of two digits: `+4718=`. The answer has two digits. Of a
copy (`c`) they are those of the first number, of `+`, `-` and `*` each is that of the two digits in
its place, modulo 10, and of `?` they were drawn at random once. So copies become trivial, and what
is drawn cannot be worked out.
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
        one, other = (np.stack([row // 10, row % 10], axis=1) for row in (first, second))
        results = [one, one + other, one - other, one * other, rng.integers(0, 10, one.shape)]
        edges = np.full((number, 1), at + 10), np.full((number, 1), EQUALS)
        parts.append(np.concatenate([edges[0], one, other, edges[1], results[at] % 10], axis=1))
    table = torch.from_numpy(rng.permutation(np.concatenate(parts)))
    return Prompts(table[:, :PROMPT], table[:, PROMPT:], table[:, 0] - 10)


def split(seed: int, train: int, held_out: int) -> tuple[Prompts, Prompts]:
    """Returns prompts to train on and others, of the same kinds, to look at."""
    both = made(train + held_out, seed)
    return Prompts(*(part[:train] for part in both)), Prompts(*(part[train:] for part in both))
