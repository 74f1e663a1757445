"""The signal of a group of rewards: what `Pruner.record` takes in place of a loss.

One float32 encodes two facts about the rollouts of a prompt, so that it can be stored like a loss:

- the success rate, the share of the rollouts that were right, in [0, 1];
- whether the group is flat: all its rewards are equal, so it gives no gradient. Then 2 is added.

So 0.25 is a group with a quarter right, 2.0 a flat group that was all wrong, and 3.0 a flat group
that was all right. With partial rewards, all rollouts may be wrong and still differ: 0.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.numbers import real
from seta.engine.pruner import Pruner
from seta.engine.table.columns import check_indices

SPREAD = 1e-6
"""Rewards count as equal if their standard deviation is below this."""
FLAT = 2.0
"""Added to the success rate of a flat group."""


def group_signal(rewards: ArrayLike, *, right: float = 0.5) -> NDArray[np.float32]:
    """Returns the signal of each group of rewards, to be passed to `Pruner.record` as its loss.

    The signal is the success rate of the group, plus 2 if all its rewards are equal; `is_flat` and
    `rate_of` decode it.

    Args:
        rewards: Numbers (B, G), the rewards of G rollouts for each of B prompts; NaN or None = no
            reward, which is left out.
        right: Least reward of a rollout that counts as right, to within 1e-6.

    Returns:
        float32 (B,); NaN for a group without any reward. `record` counts such a prompt as trained
        and keeps its earlier signal.

    Raises:
        ValueError: `rewards` does not have two dimensions, or has infinite values.
        TypeError: `rewards` are not numbers, or `right` is not.

    Examples:
        >>> group_signal([[0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0.1, 0.2, 0, 0]]).tolist()
        [0.25, 2.0, 3.0, 0.0]
    """
    table = _numbers(rewards)
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
    # A float32 reward of 0.7 is a little less than 0.7.
    hits = (there & (table >= check_right(right) - SPREAD)).sum(axis=1)
    # Of differences to one of them, so that large rewards that are alike have no spread.
    first = table[np.arange(len(table)), there.argmax(axis=1)]
    with np.errstate(over="ignore", invalid="ignore"):  # so far apart that they are not alike
        gaps = np.where(there, table - first[:, None], 0.0)
        means = gaps.sum(axis=1) / some
        spread = np.sqrt((np.where(there, gaps - means[:, None], 0.0) ** 2).sum(axis=1) / some)
    signal = hits / some + np.where(spread < SPREAD, FLAT, 0.0)
    return np.where(counts > 0, signal, np.nan).astype(np.float32)


def record_rewards(
    pruner: Pruner, indices: ArrayLike, rewards: ArrayLike, *, right: float = 0.5
) -> None:
    """Groups the rewards of rollouts by prompt, and records the signals of the groups.

    For loops in which the rollouts of a prompt are not next to each other. All rollouts of a prompt
    must be in one call, also with several processes.

    Args:
        pruner: A pruner with an open epoch.
        indices: Integers (R,), the prompt of each rollout.
        rewards: Numbers (R,), the reward of each rollout; NaN or None = no reward.
        right: Least reward of a rollout that counts as right, to within 1e-6.

    Raises:
        ValueError, IndexError: The arrays are invalid; nothing is recorded.
        TypeError: `rewards` are not numbers.
        RuntimeError: No epoch is open.
    """
    prompts, values = np.asarray(indices), _numbers(rewards)
    if prompts.ndim != 1 or values.shape != prompts.shape:
        raise ValueError(
            "indices and rewards must have one entry for each rollout, got shapes "
            f"{prompts.shape} and {values.shape}"
        )
    if not len(prompts):
        return
    check_indices(prompts, pruner.n)
    found, which, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    groups = np.full((len(found), counts.max()), np.nan)
    order = np.argsort(which, kind="stable")
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    groups[which[order], column] = values[order]
    pruner.record(found, group_signal(groups, right=right))


def is_flat(signals: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns whether each signal is that of a flat group, whose rewards are equal: bool (B,).

    Args:
        signals: Floats (B,), from `group_signal`.
    """
    return np.asarray(signals >= FLAT / 2 + 0.5)


def rate_of(signals: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the success rate of each signal: float64 (B,), in [0, 1]; NaN stays NaN.

    Args:
        signals: Floats (B,), from `group_signal`; other values count as the nearest signal.
    """
    values = signals.astype(np.float64)
    return np.clip(np.where(is_flat(signals), values - FLAT, values), 0.0, 1.0)


def check_right(right: float) -> float:
    """Returns the least reward of a rollout that counts as right.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not finite.
    """
    meaning = "the least reward of a rollout that counts as right"
    return float(real("right", right, -np.inf, np.inf, meaning, ends="()"))


def _numbers(rewards: ArrayLike) -> NDArray[np.float64]:
    """Returns rewards as float64, of the same shape, with None as NaN."""
    try:
        values = np.asarray(rewards)
        if values.dtype.kind not in "biufO":
            raise TypeError(f"they are {values.dtype}")
        if values.dtype.kind == "O" and any(isinstance(one, (str, bytes)) for one in values.flat):
            raise TypeError("some are text")
        return values.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"rewards must be numbers, None for a rollout without one, got {type(rewards).__name__}"
            f": {error}. Of a tensor, give .float().cpu(); where groups differ in size, fill them "
            "up with NaN, or call record_rewards(pruner, indices, rewards)"
        ) from error
