"""The classes of samples, and how each fares: its share of the data, its visits, its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.report.inspection.facts import Facts
from seta.report.inspection.parts import text_of

_MOST = 10_000  # classes; more are no classes, but numbers of some other kind


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each sample of a data set.

    Attributes:
        of: Integers (n,), from 0 on.
        names: Of the classes.
    """

    of: NDArray[np.integer[Any]]
    names: list[str]


@dataclass(frozen=True)
class ClassRow:
    """How a class fares.

    Attributes:
        name: Its name.
        samples: How many there are.
        share: Its share of the samples.
        visits: Its share of the visits, divided by `share`; None where visits are not known.
        loss: Mean of the latest losses; None where there are none.
        never: Samples of it that were not trained in any epoch.
    """

    name: str
    samples: int
    share: float
    visits: float | None
    loss: float | None
    never: int


def classes_of(given: Any, n: int, names: Sequence[Any] | None = None) -> Classes:
    """Returns the classes of samples.

    Args:
        given: (n,), integers or texts.
        n: Samples of the data set.
        names: Of the classes, where `given` has integers from 0 on.

    Raises:
        ValueError: There is not one for each sample, or there are too many classes.
    """
    labels = np.asarray(given)
    if labels.shape != (n,):
        raise ValueError(
            f"classes must have one entry for each of the {n} samples of the run, got shape "
            f"{labels.shape}: give those of the data set that was trained on"
        )
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < _MOST:
        count = int(labels.max()) + 1
        known = [text_of(name) for name in names or []]
        return Classes(labels, known + [str(at) for at in range(len(known), count)])
    if labels.dtype.kind not in "iubUSO":
        raise ValueError(f"classes must be integers or texts, got {labels.dtype}")
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    found, inverse = np.unique(labels, return_inverse=True)
    if len(found) > _MOST:
        raise ValueError(f"classes must be at most {_MOST:,} different ones, got {len(found):,}")
    return Classes(inverse, [_text(name) for name in found])


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else text_of(name)


def rows_of(facts: Facts, classes: Classes) -> list[ClassRow]:
    """Returns a row for each class that has samples, those with the fewest visits first."""
    of = classes.of[facts.samples]
    kinds = len(classes.names)
    counts = np.bincount(of, minlength=kinds)
    seen = np.isfinite(facts.latest)
    with_loss = np.bincount(of[seen], minlength=kinds)
    losses = np.bincount(of[seen], weights=facts.latest[seen], minlength=kinds)
    never = np.bincount(of[facts.left_out >= facts.begun], minlength=kinds)
    visits = visits_of(facts)
    told = None if visits is None else np.bincount(of, weights=visits, minlength=kinds)
    every, total = len(of), 0.0 if told is None else float(told.sum())
    rows = [
        ClassRow(
            classes.names[at],
            int(counts[at]),
            float(counts[at] / every),
            float(told[at] / total * every / counts[at]) if told is not None and total else None,
            float(losses[at] / with_loss[at]) if with_loss[at] else None,
            int(never[at]),
        )
        for at in np.flatnonzero(counts).tolist()
    ]
    return sorted(rows, key=lambda row: 1.0 if row.visits is None else row.visits)


def visits_of(facts: Facts) -> NDArray[Any] | None:
    """Returns how often each sample was visited, or else kept; None where neither is known."""
    return facts.visits if facts.visits is not None else facts.kept
