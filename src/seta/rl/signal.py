"""The signal of a group of rewards: what `Pruner.record` takes in place of a loss.

One float32 tells two things of the rollouts of a prompt, so that the table, its exchange and its
states serve as they are:

- the success rate, the share of the rollouts that were right, in [0, 1];
- whether the group is flat: its rewards are alike, and it gives no gradient. Then 2 is added.

So 0.25 is a group of which a quarter was right, 2.0 one whose rollouts were all wrong alike, and
3.0 one whose rollouts were all right alike. Rewards in parts may be all wrong and yet differ: 0.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.numbers import real
from seta.engine.pruner import Pruner

SPREAD = 1e-6
"""Rewards are alike where their standard deviation is below this."""
FLAT = 2.0
"""What is added to the success rate of a flat group."""


def group_signal(rewards: ArrayLike, *, right: float = 0.5) -> NDArray[np.float32]:
    """Returns the signals of groups of rewards.

    Args:
        rewards: Numbers (B, G), those of the G rollouts of each of B prompts; NaN = not rewarded,
            which is left out.
        right: A rollout is right if its reward is at least this.

    Returns:
        float32 (B,), NaN for a group without any reward: `record` counts such a prompt as trained,
        and what is known of it stays.

    Raises:
        ValueError: The rewards have another shape, or some are infinite.
        TypeError: `right` is no number.

    Examples:
        >>> group_signal([[0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0.1, 0.2, 0, 0]]).tolist()
        [0.25, 2.0, 3.0, 0.0]
    """
    table = np.asarray(rewards, np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise ValueError(
            f"rewards must have a row for each prompt, (B, G), got shape {table.shape}: "
            "rewards.reshape(-1, rollouts of a prompt), where rollouts of a prompt lie together; "
            "else record_rewards(pruner, indices, rewards)"
        )
    if np.isinf(table).any():
        raise ValueError("rewards must be finite, or NaN for a rollout without one, got infinity")
    there = ~np.isnan(table)
    counts = there.sum(axis=1)
    some = np.maximum(counts, 1)
    hits = (there & (table >= _threshold(right))).sum(axis=1)
    # Of differences to one of them, so that large rewards that are alike have no spread.
    first = table[np.arange(len(table)), there.argmax(axis=1)]
    gaps = np.where(there, table - first[:, None], 0.0)
    means = gaps.sum(axis=1) / some
    spread = np.sqrt((np.where(there, gaps - means[:, None], 0.0) ** 2).sum(axis=1) / some)
    signal = hits / some + np.where(spread < SPREAD, FLAT, 0.0)
    return np.where(counts > 0, signal, np.nan).astype(np.float32)


def record_rewards(
    pruner: Pruner, indices: ArrayLike, rewards: ArrayLike, *, right: float = 0.5
) -> None:
    """Records the rewards of rollouts in any order: those of one index are a group.

    For loops that sort or spread out the rollouts of a batch. Where several processes share one
    pruner's plan, each prompt's rollouts must come together in one call.

    Args:
        pruner: Its epoch is open.
        indices: Integers (R,), the prompt of each rollout.
        rewards: Numbers (R,); NaN = not rewarded.
        right: See `group_signal`.

    Raises:
        ValueError, IndexError: The arrays do not fit.
        RuntimeError: No epoch is open.
    """
    prompts, values = np.asarray(indices), np.asarray(rewards, np.float64)
    if prompts.ndim != 1 or values.shape != prompts.shape:
        raise ValueError(
            "indices and rewards must have one entry for each rollout, got shapes "
            f"{prompts.shape} and {values.shape}"
        )
    if not len(prompts):
        return
    found, which, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    groups = np.full((len(found), counts.max()), np.nan)
    order = np.argsort(which, kind="stable")
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups[which[order], column] = values[order]
    pruner.record(found, group_signal(groups, right=right))


def is_flat(signals: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of some signals are those of flat groups: bool (B,)."""
    return np.asarray(signals >= FLAT / 2 + 0.5)


def rate_of(signals: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the success rates of signals: float64 (B,), in [0, 1]; NaN stays NaN.

    What is no signal counts as the nearest one.
    """
    values = signals.astype(np.float64)
    return np.clip(np.where(is_flat(signals), values - FLAT, values), 0.0, 1.0)


def _threshold(right: float) -> float:
    meaning = "the least reward of a rollout that is right"
    return float(real("right", right, -np.inf, np.inf, meaning, ends="()"))
