"""The lists of samples that are worth a look: suspects, hardest, easiest, forgotten, starved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.suspects import suspicion
from seta.report.inspection.classes import Classes
from seta.report.inspection.facts import Facts

LENGTH = 100


@dataclass(frozen=True, eq=False)
class Listed:
    """A list of samples.

    Attributes:
        key: Its name in the page.
        title: What it is called.
        meaning: One sentence on how it was chosen.
        action: One sentence on what one could do.
        rows: int64 (up to 100,), rows of `Facts`, the most telling first.
    """

    key: str
    title: str
    meaning: str
    action: str
    rows: NDArray[np.int64]


def lists_of(
    facts: Facts, suspicion: NDArray[np.float32] | None, limit: int, *, by_class: bool = False
) -> list[Listed]:
    """Returns the lists that have samples.

    Args:
        facts: Of the run.
        suspicion: float32 (rows,), higher is more suspect, NaN = not told; None: no such list.
        limit: Epochs left out from which on a sample is starved.
        by_class: Whether samples are suspect beside those of their class.
    """
    if facts.signals:
        found = _by_success(facts)
        waiting = "Prompts that are always or never solved are meant to wait. "
    else:
        found, waiting = _by_loss(facts, suspicion, by_class), ""
    found.append(
        Listed(
            "starved",
            "Starved",
            f"Not trained for {limit} epochs or more, the longest first.",
            f"{waiting}Name those that matter in always_keep=, or prune less.",
            _starved(facts, limit),
        )
    )
    return [one for one in found if len(one.rows)]


def _by_success(facts: Facts) -> list[Listed]:
    if facts.loss is None:
        return []
    return [
        Listed(
            "solved-least",
            "Solved least",
            "The lowest success rates, each that of the latest group of rewards.",
            "See whether they can be solved, and whether the rewards are right.",
            top(facts.loss, lowest=True),
        ),
        Listed(
            "solved-most",
            "Solved most",
            "The highest success rates, each that of the latest group of rewards.",
            "A prompt that is always solved gives no gradient: those solved sometimes teach more.",
            top(facts.loss),
        ),
    ]


def _by_loss(facts: Facts, suspicion: NDArray[np.float32] | None, by_class: bool) -> list[Listed]:
    tracked = facts.mean is not None
    level = facts.mean if facts.mean is not None else facts.latest
    what = "mean loss over its visits" if tracked else f"latest {facts.measure}"
    found = []
    if suspicion is not None:
        found.append(
            Listed(
                "suspects",
                "Suspects",
                "From visit to visit their losses stay furthest above those that are typical of "
                f"{'their class' if by_class else 'all samples'}. Every run has such a list: its "
                "samples may be hard, or wrongly labelled.",
                "Look at them first when you clean the data; correct or remove what is wrong.",
                top(suspicion),
            )
        )
    found += [
        Listed(
            "hardest",
            "Hardest",
            f"The highest {what}.",
            "See whether they are hard, damaged or wrongly labelled before you train on more of "
            "them.",
            top(level),
        ),
        Listed(
            "easiest",
            "Easiest",
            f"The lowest {what}.",
            "Near copies of each other among them can be left out for good.",
            top(level, lowest=True),
        ),
    ]
    if tracked:
        found.append(
            Listed(
                "forgotten",
                "Most forgotten",
                "The latest loss lies furthest above the mean of the sample's own losses, and by "
                "more than their spread: it was better known before. Wrong labels go up and down, "
                "too.",
                "If many of them are labelled rightly, prune less, or lower the learning rate.",
                top(_forgotten(facts)),
            )
        )
    return found


def top(values: NDArray[Any], *, lowest: bool = False) -> NDArray[np.int64]:
    """Returns the rows of the highest values, the highest first, equal ones by row; NaN is none."""
    rows = np.flatnonzero(np.isfinite(values))
    order = values[rows] if lowest else -values[rows]
    if len(rows) > LENGTH:
        last = np.partition(order, LENGTH - 1)[LENGTH - 1]
        before, equal = np.flatnonzero(order < last), np.flatnonzero(order == last)
        some = np.concatenate([before, equal[: LENGTH - len(before)]])
        rows, order = rows[some], order[some]
    return rows[np.lexsort((rows, order))]


def _forgotten(facts: Facts) -> NDArray[Any]:
    """Returns by how much the latest loss is above the mean; NaN where it is no more than usual."""
    loss, mean, spread, visits = facts.loss, facts.mean, facts.spread, facts.visits
    if loss is None or mean is None or spread is None or visits is None:
        return np.full(len(facts.samples), np.nan, np.float32)
    with np.errstate(invalid="ignore"):
        above = loss.astype(np.float64) - mean  # of float32, it may be too large for one
        return np.where((visits > 2) & (above > spread), above, np.nan)


def _starved(facts: Facts, limit: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(facts.left_out >= limit)
    if len(rows) > LENGTH:  # the longest, and of these some: no order is better than another
        out = facts.left_out[rows]
        least = np.partition(out, len(out) - LENGTH)[len(out) - LENGTH]
        more, equal = rows[out > least], rows[out == least]
        rows = np.concatenate([more, equal[: LENGTH - len(more)]])
    return rows[np.lexsort((rows, -facts.left_out[rows]))]


def starving_from(facts: Facts) -> int:
    """Returns from how many epochs left out on a sample is called starved: half of them, or 3."""
    return max(3, -(-facts.begun // 2))


def suspicion_of(facts: Facts, classes: Classes | None) -> NDArray[np.float32] | None:
    """Returns how suspect each sample is: float32 (rows,), NaN = not told; None: unknown.

    As `Pruner.suspects` ranks them, beside samples of the same class where classes are known.
    """
    known = {name: getattr(facts, name) for name in ("visits", "mean", "spread", "loss")}
    if any(column is None for column in known.values()):
        return None
    return suspicion(known, None if classes is None else classes.of[facts.samples])
