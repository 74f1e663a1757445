"""ZeroSignal: prunes prompts whose latest groups of rewards gave no gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns
from seta.engine.curves.sums import dot
from seta.policies import checks
from seta.rl.signal import is_flat, rate_of

LEAST, MOST = 0.05, 0.95
"""The bounds of p."""
SELDOM = 0.01
"""The least keep probability."""


@dataclass(frozen=True)
class ZeroSignal:
    """Prunes prompts whose latest groups of rewards were flat, so that they gave no gradient.

    A group is flat if all its rewards are equal (`group_signal`): all right, or all wrong. A prompt
    with z flat groups in a row is kept with probability max(p^z, 0.01); a prompt whose latest group
    was not flat, or that has none, is always kept. There is one p for prompts that were all right
    and one for prompts that were all wrong. When an epoch begins, p falls by `step` if the share of
    such groups in the epoch before was at least its target, and else rises by `step`. All weights
    are 1.

    Source: GRESO, Zheng et al., "Act Only When It Pays: Efficient Reinforcement Learning for LLM
    Reasoning via Selective Rollouts", arXiv 2506.02177. Differences: there p is adjusted after each
    batch, here after each epoch. For more frequent adjustments use short epochs: `budget=0.25` and
    four times as many epochs. There a batch is filled up with further prompts; here the budget
    fixes the number of prompts, and if the rule keeps more or fewer, all probabilities are
    multiplied by one factor.

    Limitation: a prompt that is no longer flat may have to wait. Shares become inexact after a
    thousand groups of one prompt. Memory: 16 bytes per prompt.

    Args:
        target: Share of the groups that may be flat, in [0, 1].
        easy: Part of `target` for groups that are all right, in [0, 1]; the rest is for groups that
            are all wrong.
        step: Change of p per epoch, in [0, 1].
        start: Value of both p in the second epoch, in [0, 1]; later they stay in [0.05, 0.95].
    """

    target: float = 0.25
    easy: float = 1 / 3
    step: float = 0.01
    start: float = 0.5

    columns: ClassVar[tuple[str, ...]] = ("row", "groups", "easy", "hard")
    counted: ClassVar[tuple[str, ...]] = ("groups", "easy", "hard")
    every: ClassVar[int] = 1
    signals: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.fraction(self, "target", "the share of the groups that may be flat")
        checks.fraction(self, "easy", "the part of the target for groups that are all right")
        checks.fraction(self, "step", "the change of p per epoch")
        checks.fraction(self, "start", "the keep probability after one flat group")

    def fold(self, columns: Columns, signals: NDArray[np.float32], /) -> Columns:
        """Returns the flat groups in a row (below 0: all wrong), and counts of the groups so far.

        A group of the other side ends a row and begins a new one.
        """
        row, groups, easy, hard = (np.nan_to_num(columns[name]) for name in self.columns)
        flat, right = is_flat(signals), rate_of(signals) >= 0.5
        more = np.where(right, np.maximum(row, 0) + 1, np.minimum(row, 0) - 1)
        return {
            "row": np.where(flat, more, 0).astype(np.float32),
            "groups": groups + np.float32(1),
            "easy": (easy + (flat & right)).astype(np.float32),
            "hard": (hard + (flat & ~right)).astype(np.float32),
        }

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the flat groups in a row."""
        return columns["row"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve; its notes hold p and the counts for the next epoch."""
        notes = self.steered(histogram)
        row = np.rint(histogram.centres)
        p = np.where(row > 0, notes["p_easy"], notes["p_hard"])
        return KeepCurve(np.maximum(p ** np.abs(row), SELDOM), 1.0, notes=notes)

    def steered(self, histogram: LossHistogram) -> dict[str, float]:
        """Returns both p for the coming epoch, and the numbers of groups so far.

        Args:
            histogram: With those of the columns, and the notes of the epoch before.
        """
        before, now = histogram.notes, counts_of(histogram.columns)
        made = {name: count - before.get(name, 0.0) for name, count in now.items()}
        # The notes are of an epoch before which no group was made, or of more prompts than these.
        first = not before.get("groups") or before.get("prompts", 0) > histogram.total
        shares = {"easy": self.target * self.easy, "hard": self.target * (1 - self.easy)}
        notes = {**now, "prompts": float(histogram.total)}
        for side, share in shares.items():
            p = before.get(f"p_{side}", self.start)
            if made["groups"] > 0 and not first:
                many = made[side] >= share * made["groups"]
                p = min(max(p - self.step if many else p + self.step, LEAST), MOST)
            notes[f"p_{side}"] = p
        return notes


def counts_of(columns: Mapping[str, LossHistogram]) -> dict[str, float]:
    """Returns the groups of all prompts up to now, and those that were flat, by side.

    The counts of a prompt are whole numbers, and so is what stands for a bin of them.
    """
    return {
        name: dot(columns[name].counts, np.rint(columns[name].centres)) if columns else 0.0
        for name in ZeroSignal.counted
    }
