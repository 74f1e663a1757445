"""SuccessRate: keeps the prompts whose sampled success rate is nearest to one half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns
from seta.engine.curves.sums import dot
from seta.policies import checks
from seta.rl.signal import rate_of

RATES, SIZES = 1 << 10, 1 << 7
"""Into how many levels the mean and the size of a posterior are sorted: 2^17 bins in all."""
LARGEST = 4096.0
"""The size a + b from which on posteriors count as equally sure."""
STEPS = 128
"""In how many distances from one half, up to a half, a posterior is summed up."""


@dataclass(frozen=True)
class SuccessRate:
    """Keeps the prompts whose sampled success rates are nearest to one half (Thompson sampling).

    Each prompt has a Beta(a, b) posterior of its success rate, initially Beta(1, 1). After a group
    of k rollouts, s of them right, a becomes f a + (1 - f) + s and b becomes
    f b + (1 - f) + k - s, so that older groups count less. A prompt is kept with the probability
    that a sample of its posterior lies within t of one half, with t such that the share 1 - r is
    kept in expectation. All weights are 1.

    Prompts that are always right or always wrong are kept now and then, by chance.

    Source: MoPPS, Qu et al., "Can Prompt Difficulty be Online Predicted for Accelerating RL
    Finetuning of Reasoning Models?", arXiv 2507.04632. There the rates of a pool of prompts are
    sampled before each batch, and the prompts nearest to one half are taken. Differences: the
    probabilities are computed instead of sampling rates; a selection lasts for an epoch. For more
    frequent selections use short epochs: `budget=0.1` and ten times as many epochs.

    Memory: 8 bytes per prompt.

    Args:
        prune_ratio: r, the share to prune, in [0, 1); under a budget, 1 - budget.
        rollouts: k, the number of rollouts per prompt, >= 1.
        memory: f in [0, 1], the weight of earlier groups; 1: nothing is forgotten.
    """

    prune_ratio: float = 0.5
    rollouts: int = 8
    memory: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("right", "wrong")
    every: ClassVar[int] = 1
    signals: ClassVar[bool] = True

    @classmethod
    def at_budget(cls, budget: float, /) -> SuccessRate:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        checks.at_least_one(self, "rollouts", "the number of rollouts per prompt")
        checks.fraction(self, "memory", "the weight of earlier groups")

    def fold(self, columns: Columns, signals: NDArray[np.float32], /) -> Columns:
        """Returns a and b after one more group."""
        rate = rate_of(signals)
        parts = {"right": rate, "wrong": 1 - rate}
        folded = {}
        for name, part in parts.items():
            before = np.where(np.isnan(columns[name]), 1.0, columns[name].astype(np.float64))
            after = self.memory * before + (1 - self.memory) + self.rollouts * part
            folded[name] = np.minimum(after, np.finfo(np.float32).max).astype(np.float32)
        return folded

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns mean and size of the posteriors as one number in [1, 2), a bin for each pair."""
        right, wrong = (columns[name].astype(np.float64) for name in self.columns)
        size = right + wrong
        rate = np.clip(np.floor(right / size * RATES), 0, RATES - 1)
        level = np.clip(np.floor(np.log2(size) / np.log2(LARGEST) * SIZES), 0, SIZES - 1)
        scores: NDArray[np.float64] = 1 + (rate * SIZES + level) / (RATES * SIZES)
        return scores

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the probabilities that a sampled rate lies within t of one half."""
        count = (1 - self.prune_ratio) * histogram.total
        there = histogram.counts > 0
        within = within_of(*posterior_of(histogram.centres[there]))
        unseen = np.linspace(0.0, 1.0, STEPS + 1)  # of Beta(1, 1)
        every = np.vstack([within, unseen])
        sizes = np.append(histogram.counts[there], histogram.unseen)
        expected = np.array([dot(sizes, column) for column in every.T])
        at = int(np.clip(np.searchsorted(expected, count), 1, STEPS))
        low, high = expected[at - 1 : at + 1]
        part = (count - low) / (high - low) if high > low else 1.0
        chosen = np.clip(every[:, at - 1] + part * (every[:, at] - every[:, at - 1]), 0.0, 1.0)
        keep = np.zeros(histogram.bins)
        # Above 0, so that under a larger budget those that are nearest come first.
        keep[there] = np.maximum(chosen[:-1], np.finfo(np.float32).tiny)
        return KeepCurve(keep, float(chosen[-1]))


def posterior_of(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns mean and size of the posteriors of scores: float64 (B,) each."""
    code = np.clip(np.floor((scores - 1) * RATES * SIZES), 0, RATES * SIZES - 1)
    rate, level = np.divmod(code, SIZES)
    return (rate + 0.5) / RATES, np.exp2((level + 0.5) / SIZES * np.log2(LARGEST))


def within_of(mean: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns with what probability a draw lies within t of one half, for t from 0 to a half.

    Args:
        mean: float64 (B,), in (0, 1).
        size: float64 (B,), a + b.

    Returns:
        float64 (B, STEPS + 1), rising from 0 to 1.
    """
    middle = (np.arange(STEPS) + 0.5) / (2 * STEPS)  # distances from one half, and rates
    above, below = np.log(0.5 + middle), np.log(0.5 - middle)
    a, b = (mean * size)[:, None], ((1 - mean) * size)[:, None]
    logs = np.stack([(a - 1) * above + (b - 1) * below, (a - 1) * below + (b - 1) * above])
    logs -= logs.max(axis=(0, 2), keepdims=True)
    mass = np.exp(logs).sum(axis=0)
    sums = np.cumsum(mass, axis=1) / mass.sum(axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(mean), 1)), sums], axis=1)
